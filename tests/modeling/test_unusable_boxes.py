"""GT boxes that no detector can learn, straight from a loader of the user's own."""

import logging

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes
from detectron2.utils.logger import _LOG_COUNTER

from tests.helpers import STRIDES, make_ground_truth, square_anchors, train_step
from tood.modeling import assigners
from tood.modeling.box_ops import is_usable_box
from tood.modeling.structures import AnchorGrid, FlatPredictions
from tood.modeling.targets import compute_targets

PHASES = ["warmup", "aligned"]
NAN, INF = float("nan"), float("inf")
GOOD = (10.0, 12.0, 70.0, 80.0)
UNUSABLE = {
    "far": (0.0, 0.0, 1e19, 1e19),
    "farther": (-1e38, -1e38, 1e38, 1e38),
    "infinite": (0.0, 0.0, INF, 50.0),
    "both infinite": (-INF, -INF, INF, INF),
    "nan": (NAN, 0.0, 50.0, 50.0),
    "all nan": (NAN, NAN, NAN, NAN),
    "negative sides": (60.0, 70.0, 10.0, 20.0),
    "one negative side": (60.0, 20.0, 10.0, 70.0),
    "empty": (30.0, 30.0, 30.0, 30.0),
    "flat": (30.0, 30.0, 60.0, 30.0),
}
ASSIGNERS = {
    "ATSS": assigners.ATSSAssigner(),
    "TAL": assigners.TaskAlignedAssigner(),
    "TAL, guaranteed positives": assigners.TaskAlignedAssigner(min_positives=3, min_gt_size=16),
    "TAL, any IoU": assigners.TaskAlignedAssigner(beta=0.0, candidates_inside_gt=True),
    "TAL, CIoU": assigners.TaskAlignedAssigner(iou_type="ciou"),
    "FCOS": assigners.FCOSAssigner(),
    "FCOS, whole box": assigners.FCOSAssigner(center_sampling_radius=0),
    "FoveaBox": assigners.FoveaBoxAssigner(scale_ranges=((0, 1e9),) * 5),
    "maximum IoU": assigners.MaxIoUAssigner(),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_which_boxes_are_usable(name):
    boxes = torch.tensor([UNUSABLE[name], GOOD, (-50.0, -50.0, 5000.0, 1e8)])
    assert is_usable_box(boxes).tolist() == [False, True, True]


@pytest.mark.parametrize("phase", PHASES)
def test_the_model_trains_as_without_them(tiny_cfg, make_input, phase, caplog):
    """The same losses and gradients, and one line that names the image."""
    caplog.set_level(logging.WARNING, logger="tood")
    _LOG_COUNTER.clear()  # of detectron2's log_first_n
    model = build_model(tiny_cfg)
    without = make_input(boxes=(GOOD,), classes=(1,))
    boxes = (*UNUSABLE.values(), GOOD)
    with_them = make_input(boxes=boxes, classes=[3] * len(UNUSABLE) + [1])
    with_them.update(image=without["image"], file_name="street.jpg")
    expected = train_step(model, [without], phase)
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    losses = train_step(model, [with_them], phase)
    for key, loss in losses.items():
        assert torch.isfinite(loss) and loss.item() == expected[key].item()
    for key, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert torch.equal(parameter.grad, gradients[key]), key
    assert "street.jpg has 10 GT boxes that are empty, not finite or beyond any" in caplog.text


@pytest.mark.parametrize("phase", PHASES)
def test_nothing_but_unusable_boxes(tiny_cfg, make_input, phase):
    model = build_model(tiny_cfg)
    inputs = make_input(boxes=tuple(UNUSABLE.values()), classes=[1] * len(UNUSABLE))
    losses = train_step(model, [inputs], phase)
    assert losses["loss_box_reg"].item() == 0 and torch.isfinite(losses["loss_cls"])


def scene():
    shapes = [(12, 16), (6, 8), (3, 4), (2, 2), (1, 1)]
    grid = AnchorGrid.from_levels(square_anchors(shapes), shapes, STRIDES)
    noise = torch.rand(1, len(grid.anchors), 4) * 4
    return grid, FlatPredictions(torch.rand(1, len(grid.anchors), 5), grid.anchors + noise)


@pytest.mark.parametrize("name", ASSIGNERS)
def test_no_assigner_gives_them_points(name):
    """On a GPU the boxes cannot be removed first: their number would have to be read."""
    grid, predictions = scene()
    boxes = [*UNUSABLE.values(), GOOD]
    classes = [3] * len(UNUSABLE) + [1]
    targets, (assignment,) = compute_targets(
        ASSIGNERS[name], predictions, grid, [(96, 128)], 32, [make_ground_truth(boxes, classes)]
    )
    alone, (expected,) = compute_targets(
        ASSIGNERS[name], predictions, grid, [(96, 128)], 32, [make_ground_truth([GOOD], [1])]
    )
    assert set(targets.gt_classes.unique().tolist()) <= {-1, 1, 5}
    assert targets.gt_boxes.isfinite().all()
    if "guaranteed" in name:  # points may be offered to them in vain
        assert (assignment.matched_idxs == len(UNUSABLE)).sum() >= 3
        return
    assert torch.equal(targets.gt_classes, alone.gt_classes)
    assert torch.equal(targets.gt_boxes, alone.gt_boxes)
    if expected.norm_alignment_metrics is not None:
        assert torch.equal(targets.norm_alignment_metrics, alone.norm_alignment_metrics)
        assert torch.equal(assignment.alignment_metrics, expected.alignment_metrics)


OTHER_TYPES = {
    torch.float16: torch.int32,
    torch.bfloat16: torch.uint8,
    torch.float64: torch.int16,
    torch.int64: torch.int64,
    torch.int16: torch.int8,
}


@pytest.mark.parametrize("phase", PHASES)
def test_boxes_and_classes_of_other_types(tiny_cfg, make_input, phase):
    """Areas in float16 would be infinite from 256x256 pixels on."""
    model = build_model(tiny_cfg)
    model.set_phase(phase)
    large = (0.0, 0.0, 256.0, 260.0)  # exact in every type
    inputs = make_input(boxes=(large,), classes=(1,))
    expected = model([inputs])
    for dtype, classes_dtype in OTHER_TYPES.items():
        boxes = Boxes(torch.zeros(1, 4))
        boxes.tensor = torch.tensor([large], dtype=dtype)  # Boxes itself converts to float32
        inputs["instances"].gt_boxes = boxes
        inputs["instances"].gt_classes = torch.tensor([1], dtype=classes_dtype)
        for key, loss in model([inputs]).items():
            assert loss.item() == expected[key].item(), dtype


@pytest.mark.parametrize("channels", [2, 4])
def test_images_of_other_channels(tiny_cfg, make_input, channels):
    model = build_model(tiny_cfg)
    inputs = make_input()
    inputs["image"], inputs["file_name"] = torch.zeros(channels, 96, 128), "street.png"
    with pytest.raises(ValueError, match=f"street.png has {channels} channels, but MODEL.PIXEL_ME"):
        model([inputs])


def test_gray_images_fit_three_channels(tiny_cfg, make_input):
    model = build_model(tiny_cfg).eval()
    inputs = make_input()
    gray = inputs["image"][:1]
    with torch.no_grad():
        one = model.backbone(model.preprocess_image([{"image": gray}]).tensor)
        three = model.backbone(model.preprocess_image([{"image": gray.repeat(3, 1, 1)}]).tensor)
    assert torch.equal(one["p3"], three["p3"])


def test_one_cell_for_a_batch_norm(tiny_cfg, make_input):
    """Whoever trains without our trainer, or on images much smaller than the others."""
    tiny_cfg.MODEL.RESNETS.NORM = "BN"
    model = build_model(tiny_cfg)
    with pytest.raises(ValueError, match=r"one image of 32x32 pixels .* more images per GPU"):
        model([make_input(32, 32, boxes=((1.0, 1.0, 20.0, 20.0),))])
    assert train_step(model, [make_input(32, 40)], "aligned")
