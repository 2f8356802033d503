"""Exports of a tiny model. ``exported_onnx`` in tests/conftest.py is made once per process."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from tests.conftest import make_tiny_cfg
from tests.export.helpers import make_confident
from tood.export.metadata import build_info
from tood.export.networks import build_network, example_inputs, symbolic_sizes
from tood.export.options import ExportOptions
from tood.modeling.tracing import exporting
from tood_runtime.model_info import ModelInfo


@dataclass(frozen=True)
class Exported:
    """A file, and the model that it was exported from."""

    path: Path
    model: nn.Module
    cfg: CfgNode
    info: ModelInfo


def build_tiny() -> tuple[nn.Module, CfgNode]:
    """A narrow model with random weights, but with detections, and its config."""
    torch.manual_seed(0)
    cfg = make_tiny_cfg()
    cfg.MODEL.TOOD.SCORE_THRESH_TEST = 0.02
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 96, 160
    cfg.MODEL.TOOD.CLASS_NAMES = ["circle", "square", "triangle", "star", "cross"]
    cfg.MODEL.TOOD.CATEGORY_IDS = [1, 2, 3, 5, 8]
    model = make_confident(build_model(cfg).eval())
    return model, cfg


@pytest.fixture(scope="session")
def tiny() -> tuple[nn.Module, CfgNode]:
    """See :func:`build_tiny`. Shared: do not change the model."""
    return build_tiny()


def export_tiny(path: Path, **options) -> Exported:
    """Export the model of :func:`build_tiny` to an ONNX file."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from tood.export.onnx import save_onnx, to_onnx

    model, cfg = build_tiny()
    chosen = ExportOptions(**options)
    network = build_network(model, chosen)
    info = build_info(model, cfg, chosen, name="tiny")
    with exporting("torchvision" if chosen.deform_conv == "operator" else "gather"):
        proto = to_onnx(
            network, example_inputs(network, chosen), chosen.opset, symbolic_sizes(chosen)
        )
    save_onnx(proto, path, info)
    return Exported(path, model, cfg, info)
