import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from tests.conftest import make_tiny_cfg
from tood.inference import Detections, Detector


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def detector(cfg):
    return Detector.from_config(cfg)


@pytest.fixture
def image() -> np.ndarray:
    """(120, 200, 3) RGB; a channel order or an axis in the wrong place changes the scores."""
    y, x = np.mgrid[:120, :200]
    noise = np.random.default_rng(0).integers(0, 40, (120, 200, 3))
    return (np.stack([x, 2 * y, (x + y) // 4], axis=2).clip(0, 215) + noise).astype(np.uint8)


@pytest.fixture
def assert_same():
    """Compares the numbers of two results, which must not be empty."""

    def compare(actual: Detections, expected: Detections) -> None:
        assert len(actual) > 0
        np.testing.assert_array_equal(actual.xyxy, expected.xyxy)
        np.testing.assert_array_equal(actual.confidence, expected.confidence)
        np.testing.assert_array_equal(actual.class_id, expected.class_id)

    return compare
