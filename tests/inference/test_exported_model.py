"""ExportedModel: detectron2's inputs and outputs on a backend, which here runs in PyTorch."""

import dataclasses

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from tests.conftest import make_tiny_cfg
from tests.export.helpers import make_confident
from tests.inference.network_backend import NetworkBackend
from tood.errors import ConfigError, DataError
from tood.export.metadata import build_info
from tood.export.options import ExportOptions
from tood.export.wrapper import DetectionNetwork, RawNetwork
from tood.inference import Detector, ExportedModel

# Batches of one size, of several sizes, and with a size that detections refer to.
SIZES = [(64, 96), (90, 70), (64, 96), (33, 120), (50, 50)]


@pytest.fixture(scope="module")
def cfg():
    cfg = make_tiny_cfg()
    cfg.MODEL.TOOD.SCORE_THRESH_TEST = 0.02
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 64, 96
    return cfg


@pytest.fixture(scope="module")
def eager(cfg):
    torch.manual_seed(0)
    return make_confident(build_model(cfg).eval())


@pytest.fixture
def make_exported(cfg, eager):
    """Builds an exported model: ``make_exported(raw=True, batch=2)``."""

    def build(raw: bool = False, **changes) -> ExportedModel:
        network = RawNetwork(eager) if raw else DetectionNetwork(eager)
        info = build_info(eager, cfg, ExportOptions(raw=raw), name="tiny")
        return ExportedModel(NetworkBackend(network, dataclasses.replace(info, **changes)))

    return build


def make_inputs(sizes=SIZES) -> list[dict]:
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes]
    inputs = [{"image": image} for image in images]
    inputs[1] |= {"height": 45, "width": 140}
    return inputs


def assert_equal_outputs(actual, expected):
    assert len(actual) == len(expected)
    for found, wanted in zip(actual, expected, strict=True):
        found, wanted = found["instances"], wanted["instances"]
        assert found.image_size == wanted.image_size and len(found) == len(wanted) > 0
        assert found.get_fields().keys() == wanted.get_fields().keys()
        torch.testing.assert_close(
            found.pred_boxes.tensor, wanted.pred_boxes.tensor, rtol=0, atol=1e-2
        )
        torch.testing.assert_close(found.scores, wanted.scores, rtol=0, atol=1e-4)
        assert torch.equal(found.pred_classes, wanted.pred_classes)


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("threshold", [None, 0.45])
def test_outputs_are_the_models(make_exported, eager, raw, threshold):
    inputs, exported = make_inputs(), make_exported(raw)
    with torch.no_grad():
        expected = eager.inference(inputs, threshold)
    assert_equal_outputs(exported.inference(inputs, threshold), expected)
    assert exported.backend.batches == [(5, 3, 90, 120)]  # as ImageList pads, but for the stride
    if threshold is None:
        assert_equal_outputs(exported.eval()(inputs), expected)
    assert exported([]) == []


def test_fixed_batches_are_filled_up(make_exported, eager):
    """Detections of an image do not depend on what fills its batch."""
    inputs, exported = make_inputs([(64, 96)] * 5), make_exported(batch=2)
    with torch.no_grad():
        expected = [found for x in inputs for found in eager([x])]
    assert_equal_outputs(exported(inputs), expected)
    assert exported.backend.batches == [(2, 3, 64, 96)] * 3


def test_fixed_sizes(make_exported, eager, cfg):
    """Images that do not fit are made smaller before, by the rule of the runtime."""
    exported = make_exported(height=80, width=96)
    assert exported.has_fixed_size and not make_exported().has_fixed_size
    exported(make_inputs([(64, 96), (80, 40)]))
    assert exported.backend.batches == [(2, 3, 80, 96)]
    with pytest.raises(DataError, match="70x90 pixels after resizing, more than the 96x80"):
        exported(make_inputs())
    resize = exported.resize.get_transform
    # 120x200 -> 58x96 as in evaluation; 200x120 -> 96x58, and then to a height of 80.
    for size, expected in (((120, 200), (58, 96)), ((200, 120), (80, 48)), ((64, 64), (64, 64))):
        assert resize(np.zeros((*size, 3), np.uint8)).apply_image(
            np.zeros((*size, 3), np.uint8)
        ).shape == (*expected, 3)
    image = np.random.default_rng(0).integers(0, 256, (200, 120, 3)).astype(np.uint8)
    found = Detector(exported, cfg)(image)
    assert len(found) > 0 and found.image_size == (200, 120)
    assert found.xyxy[:, 3].max() > 100  # in pixels of the image


def test_images_of_one_channel_are_repeated(make_exported, eager):
    gray = torch.randint(0, 256, (1, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        expected = eager([{"image": gray}])
    assert_equal_outputs(make_exported()([{"image": gray}]), expected)


def test_threshold_below_the_files(make_exported):
    inputs = make_inputs()
    with pytest.raises(ConfigError, match=r"0\.01 is below that of the exported file, 0\.02"):
        make_exported().inference(inputs, 0.01)
    lower = make_exported(raw=True).inference(inputs, 0.0)
    assert all(len(found["instances"]) == 100 for found in lower)
