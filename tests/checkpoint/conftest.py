import pytest
import torch
from detectron2.modeling import build_model

from tests.conftest import make_tiny_cfg
from tood.checkpoint.key_mapping import from_tood_keys


@pytest.fixture
def model(tiny_cfg):
    return build_model(tiny_cfg)


@pytest.fixture
def other_model(tiny_cfg):
    """Builds a model of the config as it is when called, with other weights than ``model``."""

    def build():
        torch.manual_seed(7)
        return build_model(tiny_cfg)

    return build


@pytest.fixture(scope="module")
def tiny_weights():
    """A tiny model's own weights, and the same with MMDetection's names."""
    torch.manual_seed(0)
    state_dict = build_model(make_tiny_cfg()).state_dict()
    return dict(state_dict), from_tood_keys(state_dict, "mmdet")
