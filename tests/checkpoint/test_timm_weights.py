"""Weights of timm's networks: read strictly, and only by a model that normalizes as they need."""

import pytest
import torch
from detectron2.modeling import build_model

from tests.analysis.cases import RETINANET
from tests.helpers import timm_cfg
from tood.checkpoint import TOODCheckpointer, load_model
from tood.errors import CheckpointError, ConfigError

timm = pytest.importorskip("timm")

SMALL = "small/TOOD-EfficientNetLite0-320"
RGB = ["MODEL.PIXEL_MEAN", [123.675, 116.28, 103.53], "MODEL.PIXEL_STD", [58.395, 57.12, 57.375]]
MOBILE = ["MODEL.TIMM.NAME", "mobilenetv3_small_100", *RGB]
PREFIX = "backbone.bottom_up.net."


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """timm's own state_dict of MobileNetV3-S, with its classifier."""
    torch.manual_seed(1)
    return timm.create_model("mobilenetv3_small_100").state_dict()


@pytest.fixture
def saved(weights, tmp_path):
    """Writes the weights, changed by a function; returns the path."""

    def save(change=lambda weights: weights) -> str:
        torch.save(change(dict(weights)), tmp_path / "timm.pth")
        return str(tmp_path / "timm.pth")

    return save


def mobile(*opts: object) -> torch.nn.Module:
    return build_model(timm_cfg(SMALL, *MOBILE, *opts))


@pytest.mark.parametrize(
    "network",
    [
        "mobilenetv3_small_100",
        "convnext_atto",
        "resnet18",
        pytest.param("swin_tiny_patch4_window7_224", marks=pytest.mark.slow),
    ],
)
def test_every_family(network, tmp_path):
    """Also networks whose names timm flattens, and files with names that others use too."""
    torch.manual_seed(1)
    whole = timm.create_model(network)
    torch.save(whole.state_dict(), tmp_path / "timm.pth")
    model = build_model(timm_cfg(SMALL, *MOBILE, "MODEL.TIMM.NAME", network)).eval()
    TOODCheckpointer(model).load(str(tmp_path / "timm.pth"))
    reference = timm.create_model(network, features_only=True).eval()
    parts = dict(whole.named_parameters())
    for name, value in model.backbone.bottom_up.net.named_parameters():
        original = name if name in parts else name.replace("_", ".", 1)
        assert torch.equal(value, parts[original]), name
    assert len(list(reference.parameters())) == len(list(model.backbone.bottom_up.net.parameters()))


@pytest.mark.parametrize("wrapped", [None, "state_dict", "state_dict_ema"])
def test_files_of_timm_s_training(saved, weights, wrapped):
    path = saved((lambda w: w) if wrapped is None else (lambda w: {wrapped: w, "epoch": 3}))
    model = mobile()
    TOODCheckpointer(model).load(path)
    assert torch.equal(model.state_dict()[f"{PREFIX}bn1.weight"], weights["bn1.weight"])


def test_safetensors(weights, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    path = tmp_path / "model.safetensors"
    safetensors.save_file({key: value.contiguous() for key, value in weights.items()}, path)
    model = mobile()
    TOODCheckpointer(model).load(str(path))
    assert torch.equal(model.state_dict()[f"{PREFIX}conv_stem.weight"], weights["conv_stem.weight"])


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda w: {k: v for k, v in w.items() if k != "bn1.weight"}, f"{PREFIX}bn1.weight"),
        (lambda w: {**w, "blocks.9.conv.weight": torch.ones(3)}, "blocks.9.conv.weight"),
        (lambda w: {**w, "bn1.bias": torch.ones(3)}, r"bn1.bias \(3,\), in the model \(16,\)"),
        (lambda w: {"bn1.bias": w["bn1.bias"]}, "parameters of the model have no value"),
        (lambda w: {**w, "bn1.bias": w["bn1.bias"] * float("nan")}, "NaN or infinite values"),
        (lambda w: timm.create_model("convnext_atto").state_dict(), "does not match the model"),
        (lambda w: timm.create_model("resnet18").state_dict(), "does not match the model"),
        (lambda w: timm.create_model("mobilenetv2_100").state_dict(), "does not match the model"),
    ],
)
def test_files_that_do_not_match(saved, change, message):
    model = mobile()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        TOODCheckpointer(model).load(saved(change))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.slow
def test_tables_of_older_swin_files_are_dropped(tmp_path):
    name = "swin_tiny_patch4_window7_224"
    weights = timm.create_model(name).state_dict()
    weights["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    weights["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49).long()
    torch.save(weights, tmp_path / "swin.pth")
    TOODCheckpointer(mobile("MODEL.TIMM.NAME", name)).load(str(tmp_path / "swin.pth"))


@pytest.mark.parametrize(
    "opts",
    [
        ["INPUT.FORMAT", "BGR"],
        ["MODEL.PIXEL_MEAN", [103.53, 116.28, 123.675]],  # detectron2's
        ["MODEL.PIXEL_STD", [1.0, 1.0, 1.0]],
    ],
)
def test_other_normalization_is_refused(saved, opts):
    with pytest.raises(ConfigError, match=r"Set MODEL.PIXEL_MEAN \[123.675, 116.28, 103.53\], MO"):
        TOODCheckpointer(mobile(*opts)).load(saved())
    TOODCheckpointer(mobile(*opts, "MODEL.TIMM.CHECK_PIXELS", False)).load(saved())


@pytest.mark.parametrize("name", ["ConvNeXt-T", "Swin-T", "MobileNetV3-L", "EfficientNetLite0"])
def test_configs_normalize_as_timm_says(name):
    cfg = timm_cfg(f"timm/TOOD-{name}-1x")
    network = timm.create_model(cfg.MODEL.TIMM.NAME)
    assert cfg.MODEL.PIXEL_MEAN == pytest.approx([255 * v for v in network.pretrained_cfg["mean"]])
    assert cfg.MODEL.PIXEL_STD == pytest.approx([255 * v for v in network.pretrained_cfg["std"]])
    assert cfg.INPUT.FORMAT == "RGB"


def test_evaluation_needs_the_whole_model(saved):
    with pytest.raises(CheckpointError, match="only a backbone, and the whole model needs weights"):
        load_model(timm_cfg(SMALL, *MOBILE), saved())


def test_loading_draws_no_random_numbers(saved):
    """Else a training from weights would see other data than one from random weights."""
    model = mobile()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    TOODCheckpointer(model).load(saved())
    assert torch.equal(torch.rand(3), expected)


def test_own_checkpoints(tmp_path):
    """Are loaded whatever the normalization: the config that is with them has it."""
    model = mobile("INPUT.FORMAT", "BGR")
    TOODCheckpointer(model, str(tmp_path)).save("model")
    other = mobile("INPUT.FORMAT", "BGR")
    TOODCheckpointer(other, strict=True).load(str(tmp_path / "model.pth"))
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in model.state_dict().items())


def test_detectron2_s_retinanet(saved, weights):
    model = build_model(timm_cfg(SMALL, *MOBILE, *RETINANET))
    TOODCheckpointer(model).load(saved())
    assert torch.equal(model.state_dict()[f"{PREFIX}bn1.weight"], weights["bn1.weight"])
    with pytest.raises(CheckpointError, match="have no value in the file"):
        TOODCheckpointer(model).load(
            saved(lambda w: {k: v for k, v in w.items() if k[:3] != "bn1"})
        )
