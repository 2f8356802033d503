"""The detector on a GPU that is not there: what makes the host wait for it."""

import numpy as np
import pytest
from detectron2.modeling import build_model

from tests.engine.parts import make_small
from tests.fake_gpu import IMAGES, fake_gpu
from tests.modeling.test_fake_gpu import DETECTIONS
from tood.inference import Detector

MODEL = {("cpu to cuda", "", ""): "the model, in this test"}
RESULTS = {("cuda to cpu", "inference/tensors.py", "to_candidates"): "boxes, scores and classes"}


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_detector(tiny_cfg, precision):
    cfg = make_small(tiny_cfg)
    model = build_model(cfg).eval()
    cfg.MODEL.DEVICE = "cuda"
    images = [np.zeros((64, 96, 3), np.uint8)] * 2
    with fake_gpu({**MODEL, **IMAGES, **DETECTIONS, **RESULTS}) as gpu:
        detector = Detector(model.to("cuda"), cfg, precision=precision)
        assert len(list(detector.predict(images, batch_size=2))) == 2
    (copies,) = (gpu.waits[wait] for wait in RESULTS)
    assert copies == 3 * 2
