"""Every config can be exported: the published models, the quickstart's, and the ablations'."""

import pytest
import torch
from detectron2.modeling import build_model

from tests.export.helpers import make_confident
from tests.helpers import CONFIGS, PUBLISHED
from tood.config import load_config
from tood.export import ExportOptions, export_model
from tood.export.networks import has_deform_conv

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


# All published models, and the first of the others with each distinct graph.
ABLATIONS = [
    "ATSS-AnchorBased-Parallel", "ATSS-Parallel", "ATSS-QFL-Parallel", "Centerness-Parallel",
    "FCOS-Parallel", "FCOS-THead", "FoveaBox-Parallel", "FoveaBox-THead", "IoU-Parallel",
    "TAL-TAP-Parallel-18e",
]  # fmt: skip
NAMES = [*PUBLISHED, "quickstart/TOOD-R18-shapes", *(f"ablations/{name}" for name in ABLATIONS)]
# Those with a backbone of timm.
TIMM = [
    "small/TOOD-EfficientNetLite0-320", "timm/TOOD-ConvNeXt-T-1x", "timm/TOOD-MobileNetV3-L-1x",
    "timm/TOOD-Swin-T-1x",
]  # fmt: skip


def graph_of(name):
    """What of a config decides on the graph of its model."""
    cfg = load_config(str(CONFIGS / f"{name}.yaml"))
    resnet, node = cfg.MODEL.RESNETS, cfg.MODEL.TOOD
    head = node.HEAD.NAME, node.HEAD.NUM_CONVS, node.HEAD.NUM_DCN, node.ANCHOR_TYPE
    parallel = node.PARALLEL_HEAD if node.HEAD.NAME == "ParallelHead" else None
    backbone = resnet.DEPTH, resnet.NUM_GROUPS, resnet.NORM, resnet.DEFORM_ON_PER_STAGE
    return repr((backbone, node.FPN, head, node.NUM_CLASSES, parallel))


def build(name):
    """A model of a config with few channels and random weights, for small images."""
    options = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""]
    # Fewer channels, or maps of one cell, leave group normalization so few values that float32
    # resolves less than the limit of the verification where weights are random.
    options += ["MODEL.FPN.OUT_CHANNELS", "128", "MODEL.TOOD.HEAD.CHANNELS", "128"]
    options += ["INPUT.MIN_SIZE_TEST", "160", "INPUT.MAX_SIZE_TEST", "256"]
    options += ["MODEL.TOOD.SCORE_THRESH_TEST", "0.02"]
    torch.manual_seed(0)
    cfg = load_config(str(CONFIGS / f"{name}.yaml"), options)
    model = make_confident(build_model(cfg).eval())
    # Boxes and offsets of a trained model's size: wild ones reach far out of the image, where
    # float32 resolves less than the limit of the verification.
    shapes = ("tood_reg.w", "bbox_pred.w", "reg_offset_module.2.w")
    with torch.no_grad():
        for parameter_name, parameter in model.head.named_parameters():
            if parameter_name.startswith(shapes) or "conv_offset" in parameter_name:
                parameter.mul_(0.1)
    return model, cfg


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, *TIMM])
def test_verified_onnx_file(name, tmp_path):
    if name in TIMM:
        pytest.importorskip("timm")
    model, cfg = build(name)
    result = export_model(model, cfg, tmp_path / "model.onnx", name=name)
    assert result.report.passed


@pytest.mark.slow
@pytest.mark.parametrize("output", ["model.onnx", "model.xml"])
def test_gathers_instead_of_deformable_convolutions(output, tmp_path):
    model, cfg = build("TOOD-R101-DCN-2x")
    assert has_deform_conv(model)
    if output.endswith(".xml"):
        pytest.importorskip("openvino")
        options = ExportOptions(format="openvino")
    else:
        options = ExportOptions(deform_conv="gather", opset=17)
    assert export_model(model, cfg, tmp_path / output, options).report.passed


@pytest.mark.slow
def test_no_graph_is_left_out():
    covered = {graph_of(name) for name in NAMES}
    for path in (CONFIGS / "ablations").glob("*.yaml"):
        if not path.stem.startswith("Base"):
            assert graph_of(f"ablations/{path.stem}") in covered, path.stem
