"""The one list of the published models: accuracy, size and weights.

The tables of README.md and MODEL_ZOO.md are generated from :data:`MODELS` by
tools/docs/model_tables.py.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedAP:
    """COCO box AP (0 to 100) of one model at one scale, as published; None if not published.

    Attributes:
        mmdetection: on val2017, from MMDetection's configs/tood/README.md.
        authors: on val2017 (their "minival"), from the authors' README, github.com/fcjian/TOOD.
        authors_test_dev: on test-dev, from the same README.
    """

    mmdetection: float | None
    authors: float | None
    authors_test_dev: float | None


@dataclass(frozen=True)
class ModelSize:
    """Size by part (backbone, FPN, head), as ``tood info`` counts it.

    Attributes:
        parameters: of each part, frozen ones included.
        trainable: parameters that are trained; the stem and the first stage are frozen.
        flops: of each part for a 1280x800 image, in multiply-adds.
    """

    parameters: tuple[int, int, int]
    trainable: int
    flops: tuple[int, int, int]


@dataclass(frozen=True)
class ModelInfo:
    """A published model.

    Attributes:
        name: for :func:`tood.model_zoo.get_config`.
        backbone: in words.
        schedule: length of training, and the size of training images.
        ap: accuracy.
        size: parameters and FLOPs.
        weights_url: MMDetection's checkpoint; None if it published none.
        authors_drive: the authors' checkpoint on Google Drive, for a download by hand; None if
            they published none.
        authors_baidu: the same file on Baidu; the password is "tood".
    """

    name: str
    backbone: str
    schedule: str
    ap: PublishedAP
    size: ModelSize
    weights_url: str | None = None
    authors_drive: str | None = None
    authors_baidu: str | None = None

    @property
    def config(self) -> str:
        """Path of the config in the repository."""
        return f"configs/{self.name}.yaml"

    @property
    def sha256_prefix(self) -> str | None:
        """First 8 hexadecimal digits of the weights' sha256, from MMDetection's file name."""
        if self.weights_url is None:
            return None
        return self.weights_url.removesuffix(".pth").rpartition("-")[2]

    @property
    def published_ap(self) -> tuple[float, str]:
        """AP on val2017 and who published it: MMDetection, or the authors where it has none."""
        if self.ap.mmdetection is not None:
            return self.ap.mmdetection, "MMDetection"
        assert self.ap.authors is not None  # one of the two published each model
        return self.ap.authors, "authors"


def _mmdetection(model: str, version: str) -> str:
    folder = f"https://download.openmmlab.com/mmdetection/v2.0/tood/{model}_coco"
    return f"{folder}/{model}_coco_{version}.pth"


def _drive(file_id: str) -> str:
    return f"https://drive.google.com/file/d/{file_id}/view?usp=sharing"


def _baidu(file_id: str) -> str:
    return f"https://pan.baidu.com/s/{file_id}"


_R50 = ModelSize(
    (23_508_032, 3_868_672, 4_823_790),
    31_975_150,
    (83_864_576_000, 16_261_798_400, 100_785_191_750),
)
_R101 = ModelSize(
    (42_500_160, 3_868_672, 4_823_790),
    50_967_278,
    (159_833_088_000, 16_261_798_400, 100_785_191_750),
)
_R101_DCN = ModelSize(
    (44_429_418, 3_868_672, 5_321_670),
    53_394_416,
    (167_924_421_000, 16_261_798_400, 111_404_972_150),
)
_X101 = ModelSize(
    (81_406_272, 3_868_672, 4_823_790),
    89_695_982,
    (316_747_776_000, 16_261_798_400, 100_785_191_750),
)
_X101_DCN = ModelSize(
    (88_623_102, 3_868_672, 5_321_670),
    97_410_692,
    (341_135_877_000, 16_261_798_400, 111_404_972_150),
)
_1X = "12 epochs, 1333x800"
_2X = "24 epochs, multi-scale"

MODELS: tuple[ModelInfo, ...] = (
    ModelInfo(
        "TOOD-R50-1x",
        "ResNet-50",
        _1X,
        PublishedAP(42.4, 42.5, 42.7),
        _R50,
        _mmdetection("tood_r50_fpn_1x", "20211210_103425-20e20746"),
        _drive("1M7ccIsfQKA5pEtgMlRSadokLu_cFKO4B"),
        _baidu("1rjAwcX2rq5xTm7_9AdWR2Q"),
    ),
    ModelInfo(
        "TOOD-R50-AnchorBased-1x",
        "ResNet-50, anchor-based",
        _1X,
        PublishedAP(42.4, 42.4, 42.8),
        _R50,
        _mmdetection("tood_r50_fpn_anchor_based_1x", "20211214_100105-b776c134"),
        _drive("1G3Waqs3Xh7h1bfwcUfek91S1JKRCTAdV"),
        _baidu("1E_Lsxj4GXhe7iPL6feVa5Q"),
    ),
    ModelInfo(
        "TOOD-R50-2x",
        "ResNet-50",
        _2X,
        PublishedAP(44.5, None, None),
        _R50,
        _mmdetection("tood_r50_fpn_mstrain_2x", "20211210_144231-3b23174c"),
    ),
    ModelInfo(
        "TOOD-R101-2x",
        "ResNet-101",
        _2X,
        PublishedAP(46.1, 46.2, 46.7),
        _R101,
        _mmdetection("tood_r101_fpn_mstrain_2x", "20211210_144232-a18f53c8"),
        _drive("14NTtLVpG0I75jb55hB6smnibknkQ4wdb"),
        _baidu("1Py-73Xysv5w5Gvqysc_RxA"),
    ),
    ModelInfo(
        "TOOD-R101-DCN-2x",
        "ResNet-101 with DCNv2",
        _2X,
        PublishedAP(49.3, 49.2, 49.6),
        _R101_DCN,
        _mmdetection("tood_r101_fpn_dconv_c3-c5_mstrain_2x", "20211210_213728-4a824142"),
        _drive("1ufipVoODv-NgthQ8ZvLeW12TEIsCgWl5"),
        _baidu("1BfgMtKprAzoTBm91XEQk4Q"),
    ),
    ModelInfo(
        "TOOD-X101-64x4d-2x",
        "ResNeXt-101 64x4d",
        _2X,
        PublishedAP(47.6, 47.6, 48.5),
        _X101,
        _mmdetection("tood_x101_64x4d_fpn_mstrain_2x", "20211211_003519-a4f36113"),
        _drive("1IbCZ5Lim_vkgRctsJ7Sb8czrOFQpmuRF"),
        _baidu("1Y-CNmcHZtrWUFCrocSjiEA"),
    ),
    ModelInfo(
        "TOOD-X101-64x4d-DCN-2x",
        "ResNeXt-101 64x4d with DCNv2",
        _2X,
        PublishedAP(None, 50.5, 51.1),
        _X101_DCN,
        None,
        _drive("1xYSuZF5RfK81rJImNlTZWbIhPWfb5S5-"),
        _baidu("1g2qiGJVV_dZmVF5D20SsNg"),
    ),
)
