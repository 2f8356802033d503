"""Detection on a GPU; skipped without one."""

import numpy as np
import pytest
import torch

from tests.inference.test_predict import (  # noqa: F401 - among them fixtures
    assert_close,
    images,
    real_detector,
)
from tood.errors import ConfigError
from tood.inference import Detector

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]


@pytest.fixture(autouse=True)
def in_full_float32():
    """Without TF32, in which PyTorch computes convolutions on a GPU by default."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@pytest.fixture
def on_gpu(real_detector):  # noqa: F811
    """Makes a detector with the same weights: ``on_gpu(precision="float16")``."""

    def make(**options) -> Detector:
        cfg = real_detector.cfg.clone()
        cfg.MODEL.DEVICE = "cuda"
        return Detector(real_detector.model.cuda(), cfg, **options)

    yield make
    real_detector.model.cpu()


@pytest.mark.parametrize("options", [{}, {"nms": "class-agnostic"}, {"flip": True}])
def test_detections_of_the_cpu(real_detector, images, on_gpu, options):  # noqa: F811
    options = {"max_detections": 20, **options}
    expected = [real_detector(image, **options) for image in images[:3]]
    detector = on_gpu()
    for image, there in zip(images, expected, strict=False):
        assert_close(detector(image, **options), there)


def test_batches_equal_single_images(images, on_gpu):  # noqa: F811
    detector = on_gpu()
    results = detector.predict(images, batch_size=4, max_detections=20)
    for found, image in zip(results, images, strict=True):
        assert_close(found, detector(image, max_detections=20))


@pytest.mark.parametrize("precision, tolerance", [("float16", 0.02), ("bfloat16", 0.1)])
def test_lower_precision(images, on_gpu, precision, tolerance):  # noqa: F811
    """The best score moves little; which boxes NMS keeps depends on random weights' near ties."""
    detector, low = on_gpu(), on_gpu(precision=precision)
    expected, found = detector(images[0]), low(images[0])
    assert found.xyxy.dtype == found.confidence.dtype == np.float32
    assert found.confidence[0] == pytest.approx(expected.confidence[0], abs=tolerance)
    assert not np.array_equal(found.confidence, expected.confidence)
    with torch.autocast("cuda", torch.float16):  # of the caller
        again = detector(images[0])
    np.testing.assert_allclose(again.confidence[:5], expected.confidence[:5], 1e-4)


def test_images_on_the_gpu(images, on_gpu):  # noqa: F811
    detector = on_gpu()
    tensor = torch.from_numpy(images[0]).permute(2, 0, 1).cuda()
    assert_close(detector(tensor, max_detections=20), detector(images[0], max_detections=20))


@pytest.mark.slow
def test_a_compiled_model_gives_the_same(images, on_gpu):  # noqa: F811
    expected = [on_gpu()(image, max_detections=20) for image in images[:3]]
    detector = on_gpu(compile=True)
    for image, there in zip(images, expected, strict=False):
        found = detector(image, max_detections=20)
        np.testing.assert_allclose(found.confidence, there.confidence, atol=1e-4)
        np.testing.assert_allclose(found.xyxy, there.xyxy, atol=0.1)
    torch._dynamo.reset()


def test_devices_by_name(cfg, image, assert_same):
    opened = [Detector.from_config(_on(cfg, device)) for device in ("auto", "cuda", "cuda:0")]
    for detector in opened:
        assert next(detector.model.parameters()).device == torch.device("cuda:0")
        assert_same(detector(image), opened[0](image))
    with pytest.raises(ConfigError, match="There is no device cuda:99"):
        Detector.from_config(_on(cfg, "cuda:99"))


def _on(cfg, device):
    cfg = cfg.clone()
    cfg.MODEL.DEVICE = device
    return cfg
