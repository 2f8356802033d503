"""Detection on single images, compared with detectron2's own predictor."""

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from PIL import Image

from tests.conftest import make_tiny_cfg
from tests.helpers import CONFIGS
from tood.config.loading import load_config
from tood.errors import CheckpointError, ConfigError
from tood.inference import Detections, Detector
from tood_runtime.image_io import ImageReadError, save_image


@pytest.fixture(scope="module")
def cfg(tmp_path_factory):
    """A tiny model with random weights whose scores are spread out."""
    torch.manual_seed(0)
    cfg = make_tiny_cfg()
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 64, 96
    cfg.MODEL.TOOD.CLASS_NAMES = ["ant", "bee", "cat", "dog", "elk"]
    cfg.MODEL.TOOD.CATEGORY_IDS = [1, 2, 30, 4, 50]
    model = build_model(cfg)
    model.head.tood_cls.bias.data.copy_(torch.linspace(-4, 1, 5))
    torch.nn.init.constant_(model.head.cls_prob_module[-1].bias, 1.0)
    cfg.MODEL.WEIGHTS = str(tmp_path_factory.mktemp("weights") / "model.pth")
    torch.save(model.state_dict(), cfg.MODEL.WEIGHTS)
    return cfg


@pytest.fixture(scope="module")
def detector(cfg):
    return Detector.from_config(cfg)


@pytest.fixture
def image() -> np.ndarray:
    """(120, 200, 3) RGB; a channel order or an axis in the wrong place changes the scores."""
    y, x = np.mgrid[:120, :200]
    noise = np.random.default_rng(0).integers(0, 40, (120, 200, 3))
    return (np.stack([x, 2 * y, (x + y) // 4], axis=2).clip(0, 215) + noise).astype(np.uint8)


def assert_equal(actual: Detections, expected: Detections) -> None:
    assert len(actual) > 0
    np.testing.assert_array_equal(actual.xyxy, expected.xyxy)
    np.testing.assert_array_equal(actual.confidence, expected.confidence)
    np.testing.assert_array_equal(actual.class_id, expected.class_id)


# ---- numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(120, 200), (64, 64), (41, 30), (300, 100)])
def test_equals_detectron2s_predictor(cfg, detector, size):
    image = np.random.default_rng(1).integers(0, 256, (*size, 3)).astype(np.uint8)
    expected = DefaultPredictor(cfg)(image[:, :, ::-1])["instances"]
    threshold = cfg.MODEL.TOOD.SCORE_THRESH_TEST
    found = detector(image, score_threshold=threshold)
    assert len(found) == len(expected) > 5
    np.testing.assert_array_equal(found.xyxy, expected.pred_boxes.tensor.numpy())
    np.testing.assert_array_equal(found.confidence, expected.scores.numpy())
    np.testing.assert_array_equal(found.class_id, expected.pred_classes.numpy())
    assert found.image_size == size


@pytest.mark.parametrize("image_format", ["BGR", "L"])
def test_images_reach_the_model_in_its_format(cfg, image, image_format):
    cfg = cfg.clone()
    cfg.INPUT.FORMAT = image_format
    channels = 1 if image_format == "L" else 3
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [100.0] * channels, [50.0] * channels
    cfg.INPUT.MIN_SIZE_TEST = 0  # as they are
    seen = []
    detector = Detector(build_model(cfg).eval(), cfg)
    original = detector.model.preprocess_image
    detector.model.preprocess_image = lambda batch: (
        seen.append(batch[0]["image"]) or original(batch)
    )
    detector(image)
    expected = np.asarray(Image.fromarray(image).convert("L"))[..., None]
    expected = expected if image_format == "L" else image[:, :, ::-1]
    np.testing.assert_array_equal(seen[0].numpy(), expected.transpose(2, 0, 1))


def test_result(detector, image):
    found = detector(image, score_threshold=0.1)
    assert isinstance(found, Detections) and found.path is None
    assert found.class_names == [detector.class_names[i] for i in found.class_id]
    assert detector.class_names[2] == "cat" and detector.category_ids[2] == 30
    assert (np.diff(found.confidence) <= 0).all()
    assert found.xyxy.min() >= 0 and (found.xyxy.max(axis=0) <= [200, 120, 200, 120]).all()
    assert found.draw(image).size == (480, 288)


# ---- thresholds ------------------------------------------------------------------------------


def test_any_threshold_works_and_the_config_keeps_its_own(cfg, image):
    """Also below the evaluation's threshold; higher ones give the best of the lower ones."""
    cfg = cfg.clone()
    cfg.MODEL.TOOD.SCORE_THRESH_TEST = 0.4
    cfg.TEST.DETECTIONS_PER_IMAGE = 10000
    detector = Detector.from_config(cfg)
    lowest = detector(image, score_threshold=0)
    assert lowest.confidence.min() < 0.1
    for threshold in (0.05, 0.3, 0.4, 0.6):
        found = detector(image, score_threshold=threshold)
        assert_equal(found, lowest[lowest.confidence > np.float32(threshold)])
    assert len(detector(image, score_threshold=1)) == 0
    assert_equal(detector(image), detector(image, score_threshold=0.3))
    assert detector.cfg.MODEL.TOOD.SCORE_THRESH_TEST == 0.4
    assert detector.model.test_score_thresh == 0.4


def test_threshold_includes_centerness(cfg, image):
    """Heads with centerness apply theirs before it is multiplied into the scores."""
    cfg = cfg.clone()
    cfg.MODEL.TOOD.HEAD.NAME, cfg.MODEL.TOOD.PARALLEL_HEAD.CENTERNESS = "ParallelHead", True
    detector = Detector(build_model(cfg).eval(), cfg)
    torch.nn.init.zeros_(detector.model.head.cls_score.bias)
    lowest = detector(image, score_threshold=0)
    threshold = float(np.median(lowest.confidence))
    found = detector(image, score_threshold=threshold)
    assert 0 < len(found) < len(lowest) and found.confidence.min() > threshold


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), 50])
def test_thresholds_outside_of_0_to_1(detector, image, threshold):
    with pytest.raises(ValueError, match="score_threshold must be between 0 and 1"):
        detector(image, score_threshold=threshold)


@pytest.mark.parametrize(
    "architecture, key",
    [("RetinaNet", "MODEL.RETINANET"), ("GeneralizedRCNN", "MODEL.ROI_HEADS")],
)
def test_detectron2s_own_detectors(image, architecture, key):
    cfg = get_cfg()
    cfg.set_new_allowed(True)
    cfg.merge_from_other_cfg(make_tiny_cfg())
    cfg.MODEL.META_ARCHITECTURE = architecture
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC, cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 1, 7
    cfg.MODEL.RETINANET.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[0.5, 1.0, 2.0]]
    cfg.MODEL.RETINANET.PRIOR_PROB = 0.2
    cfg.MODEL.RETINANET.NUM_CLASSES = cfg.MODEL.ROI_HEADS.NUM_CLASSES = 7
    cfg.MODEL.TOOD.CLASS_NAMES = ["ant", "bee", "cat", "dog", "elk"]
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.FORMAT = 64, "BGR"
    detector = Detector(build_model(cfg).eval(), cfg)
    lowest = detector(image, score_threshold=0.05)
    known = {"ant", "bee", "cat", "dog", "elk"}
    assert len(lowest) > 0 and set(lowest.class_names) <= known | {"class 5", "class 6"}
    threshold = float(np.median(lowest.confidence))
    assert_equal(detector(image, score_threshold=threshold), lowest[lowest.confidence > threshold])
    with pytest.raises(ConfigError, match=rf"0\.01 is below {key}\.SCORE_THRESH_TEST 0\.05"):
        detector(image, score_threshold=0.01)


# ---- images ----------------------------------------------------------------------------------


def test_all_kinds_of_images_give_the_same(detector, image, tmp_path):
    path = tmp_path / "x.png"
    save_image(image, path)
    expected = detector(image)
    assert_equal(detector(image[:, :, ::-1], channel_order="BGR"), expected)
    assert_equal(detector(Image.fromarray(image)), expected)
    assert_equal(detector(path), expected)
    assert_equal(detector(str(path)), expected)
    assert detector(path).path == str(path)
    drawing = np.asarray(detector(path).draw())
    np.testing.assert_array_equal(drawing, np.asarray(expected.draw(image)))


def test_orientation_is_applied(detector, image, tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(image).save(tmp_path / "x.png", exif=exif)
    expected = detector(np.ascontiguousarray(np.rot90(image, -1)))
    assert_equal(detector(tmp_path / "x.png"), expected)
    assert expected.image_size == (200, 120)


def test_the_image_is_not_changed(detector, image):
    before = image.copy()
    image.flags.writeable = False
    detector(image)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (900, 3), (2, 5000)])
def test_extreme_shapes(detector, size):
    """detectron2's resize would leave no pixel of some sides."""
    found = detector(np.full((*size, 3), 90, np.uint8), score_threshold=0)
    assert found.image_size == size


@pytest.mark.parametrize(
    "bad, error",
    [
        (None, TypeError),
        (torch.zeros(3, 8, 8), TypeError),
        (np.zeros((8, 8, 3), np.float32), TypeError),
        (np.zeros((3, 8, 8), np.uint8), ValueError),
        (np.zeros((0, 8, 3), np.uint8), ValueError),
        ("missing.png", ImageReadError),
    ],
)
def test_unsupported_input_is_explained_in_one_sentence(detector, bad, error):
    with pytest.raises(error) as caught:
        detector(bad)
    assert "\n" not in str(caught.value)


def test_unknown_channel_order(detector, image):
    with pytest.raises(ValueError, match="channel_order 'GBR'"):
        detector(image, channel_order="GBR")


# ---- construction ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run_folder(cfg, tmp_path_factory):
    """What a training run leaves behind."""
    folder = tmp_path_factory.mktemp("run")
    saved = cfg.clone()
    saved.MODEL.WEIGHTS = "detectron2://somewhere/R-18.pkl"
    (folder / "config.yaml").write_text(saved.dump())
    torch.save({"model": torch.load(cfg.MODEL.WEIGHTS)}, folder / "model_final.pth")
    return folder


def test_from_a_runs_folder(detector, run_folder, image):
    assert_equal(Detector.from_pretrained(run_folder)(image), detector(image))
    assert_equal(Detector.from_pretrained(str(run_folder), device="cpu")(image), detector(image))


def test_from_a_config_file_with_weights(detector, cfg, run_folder, image):
    config = run_folder / "config.yaml"
    found = Detector.from_pretrained(config, weights=cfg.MODEL.WEIGHTS)(image)
    assert_equal(found, detector(image))


def test_from_a_model_zoo_name(tmp_path):
    """The name gives config and classes; weights of your own replace the published ones."""
    model = build_model(load_config(str(CONFIGS / "TOOD-R50-1x.yaml"), ["MODEL.DEVICE", "cpu"]))
    torch.save(model.state_dict(), tmp_path / "w.pth")
    detector = Detector.from_pretrained("TOOD-R50-1x", weights=tmp_path / "w.pth", device="cpu")
    assert detector.class_names[0] == "person" and detector.category_ids[-1] == 90
    assert detector.cfg.MODEL.WEIGHTS == str(tmp_path / "w.pth")
    assert not detector.model.training


def test_wrong_construction(cfg, run_folder, tmp_path):
    with pytest.raises(ConfigError, match="TOOD-R50"):
        Detector.from_pretrained("TOOD-R50")
    (tmp_path / "config.yaml").write_text((run_folder / "config.yaml").read_text())
    with pytest.raises(CheckpointError, match="no checkpoint"):
        Detector.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="nowhere"):
        Detector.from_pretrained(run_folder, weights=tmp_path / "nowhere.pth")
    empty = cfg.clone()
    empty.MODEL.WEIGHTS = ""
    with pytest.raises(CheckpointError, match="MODEL.WEIGHTS"):
        Detector.from_config(empty)


def test_devices(cfg, run_folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    on_gpu = cfg.clone()
    on_gpu.MODEL.DEVICE = "cuda"
    on_gpu.freeze()
    detector = Detector.from_config(on_gpu)
    assert detector.model.device.type == "cpu" and on_gpu.MODEL.DEVICE == "cuda"
    for device in ("cuda", "cuda:3"):
        with pytest.raises(ConfigError, match=f"no device '{device}'.*finds 0 GPUs"):
            Detector.from_pretrained(run_folder, device=device)
    with pytest.raises(ConfigError, match="Unknown device 'gpu'"):
        Detector.from_pretrained(run_folder, device="gpu")
