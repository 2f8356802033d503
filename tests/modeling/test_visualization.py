"""Drawings of training images: right in size, color and time, and without influence on training."""

import copy
import random

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.events import EventStorage

from tood.modeling.structures import DensePredictions
from tood.modeling.visualization import IMAGE_NAME, to_rgb
from tood_runtime.drawing import class_color

PHASES = ["warmup", "aligned"]
BOX = (10, 12, 70, 80)


def drawings(model, batch, iteration: int) -> list[np.ndarray]:
    """What one training step at an iteration stores."""
    with EventStorage(iteration) as storage:
        model(batch)
        assert all(name == IMAGE_NAME for name, _, _ in storage._vis_data)
        return [image for _, image, _ in storage._vis_data]


def gray_input(make_input, boxes=(BOX,), classes=(1,)):
    inputs = make_input(boxes=boxes, classes=classes)
    inputs["image"] = torch.full((3, 96, 128), 128, dtype=torch.uint8)
    inputs["image"][0] = 20
    return inputs


@pytest.mark.parametrize("phase", PHASES)
def test_size_colors_and_iterations(tiny_cfg, make_input, phase):
    tiny_cfg.VIS_PERIOD = 5
    tiny_cfg.INPUT.FORMAT = "RGB"
    model = build_model(tiny_cfg)
    model.set_phase(phase)
    batch = [gray_input(make_input), make_input(64, 96)]
    for iteration in (1, 4, 6):
        assert drawings(model, batch[1:], iteration) == []
    (image,) = drawings(model, batch, 5)
    assert image.shape == (3, 2 * 96, 128) and image.dtype == np.uint8
    top, bottom = image[:, :96], image[:, 96:]
    # Below the label, the outline of the GT box; elsewhere the image.
    assert top[:, 75, BOX[0]].tolist() == top[:, BOX[3] - 1, 40].tolist() == list(class_color(1))
    assert top[:, 60, 40].tolist() == top[:, 90, 120].tolist() == [20, 128, 128]
    assert (bottom.reshape(3, -1) == [[20], [128], [128]]).all()  # scores start at 0.01


def test_detections_are_the_models_own(tiny_cfg, make_input):
    """The boxes that it now predicts in the first image, at most 20."""
    tiny_cfg.VIS_PERIOD = 1
    tiny_cfg.INPUT.FORMAT = "RGB"
    model = build_model(tiny_cfg)
    original = model.head.forward

    def one_box(features, anchors):
        output = original(features, anchors)
        scores = [x * 0 for x in output.scores]
        boxes = [x * 1 for x in output.boxes]
        scores[0][0, 2, 0, 0] = 0.9
        boxes[0][0, :, 0, 0] = torch.tensor([30.0, 20.0, 90.0, 70.0])
        return DensePredictions(scores, boxes)

    model.head.forward = one_box
    (image,) = drawings(model, [gray_input(make_input, (), ())], 0)
    assert (image[:, :96].reshape(3, -1) == [[20], [128], [128]]).all()  # no GT
    bottom = image[:, 96:]
    assert bottom[:, 65, 30].tolist() == bottom[:, 69, 60].tolist() == list(class_color(2))


@pytest.mark.parametrize("phase, boxes", [("warmup", (BOX,)), ("aligned", (BOX,)), ("aligned", ())])
def test_training_is_bit_equal_with_and_without(tiny_cfg, make_input, phase, boxes):
    """Weights, statistics of the assignment, and the random states of all three libraries."""
    classes = (1,) * len(boxes)
    batches = [[make_input(64, 64, boxes, classes)] for _ in range(2)]
    model = build_model(tiny_cfg)
    model.test_score_thresh = 0.0  # something to draw
    results = []
    for period in (0, 1):
        torch.manual_seed(0), np.random.seed(0), random.seed(0)
        other = copy.deepcopy(model)
        other.vis_period = period
        other.set_phase(phase)
        optimizer = torch.optim.SGD(other.parameters(), lr=0.01)
        with EventStorage(18) as storage:
            for batch in batches:
                optimizer.zero_grad()
                sum(other(batch).values()).backward()
                optimizer.step()
                storage.step()
            assert len(storage._vis_data) == (2 if period else 0)
            latest = {k: v for k, v in storage.latest().items() if k.startswith("assign/")}
        randoms = (torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random())
        results.append((other.state_dict(), latest, randoms))
    (weights, *rest), (expected, *others) = results
    assert rest == others
    for key, value in weights.items():
        assert torch.equal(value, expected[key]), key


def test_only_the_main_process_draws(tiny_cfg, make_input, monkeypatch):
    tiny_cfg.VIS_PERIOD = 1
    model = build_model(tiny_cfg)
    batch = [make_input()]
    assert len(drawings(model, batch, 0)) == 1
    model(batch)  # without a storage
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert drawings(model, batch, 0) == []


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize(
    "input_format, channels, expected",
    [
        ("RGB", (10, 20, 30), [10, 20, 30]),
        ("BGR", (30, 20, 10), [10, 20, 30]),
        ("L", (40,), [40, 40, 40]),
        ("BGR", (40,), [40, 40, 40]),
        ("RGB", (10, 20, 30, 99), [10, 20, 30]),
    ],
)
def test_channel_order(input_format, channels, expected, dtype):
    image = torch.tensor(channels, dtype=dtype)[:, None, None].expand(-1, 4, 6)
    rgb = to_rgb(image, input_format)
    assert rgb.shape == (4, 6, 3) and rgb.dtype == np.uint8
    assert (rgb == expected).all()


def test_classes_without_names_and_names_of_classes(tiny_cfg, make_input, monkeypatch):
    seen = []
    original = "tood.modeling.visualization.draw_detections"

    def draw(image, detections, scale):
        seen.append((detections.class_names, detections.confidence.tolist()))
        return image

    monkeypatch.setattr(original, draw)
    tiny_cfg.VIS_PERIOD = 1
    tiny_cfg.MODEL.TOOD.CLASS_NAMES = ["cat", "dog"]
    model = build_model(tiny_cfg)
    drawings(model, [make_input(boxes=(BOX, BOX), classes=(1, 4))], 0)
    assert seen[0] == (["dog", "class 4"], [1.0, 1.0])
    assert seen[1] == ([], [])
