import copy
import functools

import pytest
import torch
from detectron2.modeling import build_model

from tests.conftest import make_tiny_cfg
from tests.export.helpers import make_confident
from tests.export.verify.helpers import NetworkBackend
from tood.export.metadata import build_info
from tood.export.options import ExportOptions
from tood.export.verify import verifying
from tood.export.verify.reference import run_model, settings_of
from tood.export.wrapper import DetectionNetwork, RawNetwork

_REFERENCES = {}


@pytest.fixture(autouse=True)
def cached_references(monkeypatch):
    """The models of these tests do not change, so each runs a batch once."""

    def run(model, batch):
        key = (
            model, settings_of(model), batch.padded_size,
            *((image.name, image.size, image.original_size) for image in batch.images),
        )  # fmt: skip
        if key not in _REFERENCES:
            _REFERENCES[key] = run_model(model, batch)
        return _REFERENCES[key]

    monkeypatch.setattr(verifying, "run_model", run)


@pytest.fixture(scope="session")
def confident():
    """A narrow model with many detections, and its config."""
    torch.manual_seed(0)
    cfg = make_tiny_cfg()
    cfg.MODEL.TOOD.SCORE_THRESH_TEST = 0.3
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 48, 96
    return make_confident(build_model(cfg).eval()), cfg


@pytest.fixture(scope="session")
def make_backend(confident):
    """Builds what a file of the model does: ``make_backend(raw, precision, change)``."""
    model, cfg = confident

    @functools.lru_cache
    def build_parts(raw, precision):
        options = ExportOptions(format="torchscript", raw=raw, precision=precision)
        own_model = model if precision == "float32" else copy.deepcopy(model)
        network = (RawNetwork if raw else DetectionNetwork)(own_model, options.dtype)
        return network.eval(), build_info(model, cfg, options, name="tiny")

    def build(raw=False, precision="float32", change=None):
        return NetworkBackend(*build_parts(raw, precision), change)

    return build
