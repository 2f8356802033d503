"""Lower precision and torch.compile: nearly the same detections, and clear errors."""

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from torch._dynamo import exc

from tests.inference.test_predict import real_detector  # noqa: F401 - a fixture
from tests.modeling.two_stage import to_two_stage
from tests.runtime.conftest import build_info
from tood.errors import ConfigError
from tood.inference import Detector, ExportedModel
from tood.inference.acceleration import compile_errors, compile_parts, half_precision
from tood_runtime.prediction import PredictionSettings


def test_bfloat16_is_autocast(real_detector, image):  # noqa: F811
    """How near it is to float32 depends on the weights; a trained model is within 0.2 px."""
    low = Detector(real_detector.model, real_detector.cfg, precision="bfloat16")
    prepared = [real_detector.prepare(image)]
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        (expected,) = real_detector._run_model(prepared, PredictionSettings())
    found = low(image)
    assert found.xyxy.dtype == found.confidence.dtype == np.float32 and len(found) > 0
    np.testing.assert_array_equal(found.xyxy, expected.boxes)
    np.testing.assert_array_equal(found.confidence, expected.scores)
    plain = real_detector(image)
    assert not np.array_equal(plain.confidence[:5], found.confidence[:5])
    with torch.autocast("cpu", torch.bfloat16):  # of the caller
        np.testing.assert_array_equal(real_detector(image).confidence, plain.confidence)


def test_exported_files_have_their_precision(detector):
    for options in ({"precision": "bfloat16"}, {"compile": True}):
        with pytest.raises(ConfigError, match="precision of an exported file is fixed"):
            Detector(FakeExport(), detector.cfg, **options)


class FakeExport(ExportedModel):
    def __init__(self):
        torch.nn.Module.__init__(self)
        self.info = build_info()


def test_what_a_device_does_not_have(detector):
    for precision, message in (("float16", "Use bfloat16"), ("int8", "Available: float32, bf")):
        with pytest.raises(ConfigError, match=message):
            Detector(detector.model, detector.cfg, precision=precision)
    assert half_precision("cpu") == "bfloat16" and half_precision("cuda:1") == "float16"


def test_errors_of_torch_compile_say_what_helps():
    message = r"torch.compile failed: no compiler\. It needs a C\+\+"
    with pytest.raises(ConfigError, match=message), compile_errors():
        raise exc.TorchDynamoException("no compiler\nand a long explanation")


def test_compiled_parts_of_a_two_stage_model(tiny_cfg, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda part, **options: compiled.append(part))
    model = build_model(to_two_stage(tiny_cfg))
    compile_parts(model)
    assert compiled == [model.backbone, model.proposal_generator.head]


@pytest.mark.slow
def test_a_compiled_model_gives_the_same(cfg, image):
    expected = Detector.from_config(cfg)(image)
    found = Detector.from_config(cfg, compile=True)(image)
    np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-5)
    np.testing.assert_allclose(found.xyxy, expected.xyxy, atol=1e-2)
    torch._dynamo.reset()
