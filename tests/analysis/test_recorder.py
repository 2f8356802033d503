"""PredictionRecorder: what it records, in which order, and that it leaves nothing behind."""

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from tests.analysis.cases import PARALLEL_HEAD, RETINANET
from tests.conftest import make_tiny_cfg
from tests.modeling.two_stage import to_two_stage
from tood.analysis.recorder import PredictionRecorder
from tood.errors import ConfigError
from tood.modeling.postprocessing import select_candidates


class Wrapper(nn.Module):
    """A model inside another one, as DistributedDataParallel has it."""

    def __init__(self, module):
        super().__init__()
        self.module = module


def run(model):
    torch.manual_seed(2)
    images = [{"image": torch.rand(3, 64, 96) * 255}, {"image": torch.rand(3, 96, 64) * 255}]
    with torch.no_grad():
        return model(images)


@pytest.mark.parametrize(
    "opts", [[], PARALLEL_HEAD, RETINANET], ids=["T-head", "parallel", "RetinaNet"]
)
def test_best_prediction_is_the_best_detection(make_cfg, opts):
    """Of both images of a batch, also if the model is wrapped."""
    torch.manual_seed(1)
    model = build_model(make_cfg(*opts)).eval()
    model.test_score_thresh = 0.0
    recorder = PredictionRecorder(Wrapper(model))
    recorder.start()
    outputs = run(model)
    assert recorder.grid.level_shapes[0] == (12, 12)
    assert recorder.grid.level_strides == [8, 16, 32, 64, 128]
    for index, output in enumerate(outputs):
        scores, boxes = recorder.for_image(index)
        assert len(scores) == len(boxes) == len(recorder.grid.centers)
        best = select_candidates(scores, boxes, 0.0, 1)
        found = output["instances"]
        assert best.scores[0] == pytest.approx(found.scores[0].item(), abs=1e-6)
        assert best.classes[0] == found.pred_classes[0]


def test_boxes_lie_around_their_points(make_cfg):
    """Untrained boxes are near the points of the grid, which checks the order of both."""
    for opts in ([], RETINANET):
        model = build_model(make_cfg(*opts)).eval()
        recorder = PredictionRecorder(model)
        recorder.start()
        run(model)
        centers = recorder.for_image(0).boxes.unflatten(1, (2, 2)).mean(1)
        distance = (centers - recorder.grid.centers).abs().amax(1)
        assert (distance < 2 * recorder.grid.strides[:, 0]).all()


@pytest.mark.parametrize("opts", [[], RETINANET], ids=["TOOD", "RetinaNet"])
def test_stop_restores_the_model(make_cfg, opts):
    model = build_model(make_cfg(*opts)).eval()
    attributes = set(vars(model))
    recorder = PredictionRecorder(model)
    recorder.start()
    recorder.start()  # twice is once
    run(model)
    recorder.stop()
    assert set(vars(model)) == attributes and not model.head._forward_hooks
    run(model)
    with pytest.raises(RuntimeError, match=r"Call start\(\)"):
        recorder.for_image(0)


def test_nothing_recorded(make_cfg):
    recorder = PredictionRecorder(build_model(make_cfg()))
    with pytest.raises(RuntimeError, match=r"Call start\(\)"):
        _ = recorder.grid


def test_two_stages():
    """The classes of the first stage are not those of the detections."""
    model = build_model(to_two_stage(make_tiny_cfg()))
    with pytest.raises(ConfigError, match="those of the second stage"):
        PredictionRecorder(model)


def test_unsupported_model():
    with pytest.raises(ConfigError, match=r"predictions of Linear. Supported: TOOD, RetinaNet"):
        PredictionRecorder(nn.Linear(1, 1))
