"""IoU, GIoU and points in boxes, for any boxes."""

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.strategies import any_boxes, floats, grid_boxes, tensors
from tood.modeling.assigners.alignment_metric import IOU_FUNCTIONS
from tood.modeling.box_ops import (
    box_area,
    box_centers,
    box_iou,
    centerness,
    is_usable_box,
    points_inside_boxes,
)
from tood.modeling.losses import giou_loss

COUNT = 6
# Of the largest decoded distance: e^20 strides of 128 pixels are 6.2e10.
FAR = 1e11


def giou(boxes1: torch.Tensor, boxes2: torch.Tensor) -> torch.Tensor:
    return 1 - giou_loss(boxes1, boxes2)


# (function, lowest value)
PAIRWISE = [(box_iou, 0.0), (giou, -1.0)]
grid = grid_boxes(COUNT, COUNT)


@pytest.mark.parametrize("function, low", PAIRWISE)
@given(a=any_boxes(COUNT, FAR), b=any_boxes(COUNT, FAR))
def test_bounds(function, low, a, b):
    """Also of inverted, empty and immense boxes."""
    values = function(a, b)
    assert (values >= low).all() and (values <= 1).all()


@pytest.mark.parametrize("function, low", PAIRWISE)
@given(a=any_boxes(COUNT, 200), b=any_boxes(COUNT, 200))
def test_symmetry(function, low, a, b):
    if function is giou:  # which is defined for an inverted prediction, and not for an inverted GT
        a, b = (
            torch.cat([x[:, :2].minimum(x[:, 2:]), x[:, :2].maximum(x[:, 2:])], 1) for x in (a, b)
        )
    assert torch.equal(function(a, b), function(b, a))


@pytest.mark.parametrize("function, low", PAIRWISE)
@given(boxes=grid)
def test_a_box_and_itself(function, low, boxes):
    assert (function(boxes, boxes.clone()) == 1).all()


@pytest.mark.parametrize("function, low", PAIRWISE)
@given(boxes=grid, other=grid, power=st.integers(-3, 20))
def test_unit_of_length(function, low, boxes, other, power):
    """Exactly: the smallest union, (1/8 * 1/8)^2 pixels, is still above eps."""
    factor = 2.0**power
    assert torch.equal(function(boxes * factor, other * factor), function(boxes, other))


@pytest.mark.parametrize("function, low", PAIRWISE)
@given(boxes=grid, other=grid, shift=tensors(2, st.integers(-4096, 4096).map(float)))
def test_translation(function, low, boxes, other, shift):
    """Exactly: float32 holds the moved coordinates, which are multiples of 1/8."""
    shift = shift.repeat(2)
    assert torch.equal(function(boxes + shift, other + shift), function(boxes, other))


@given(boxes=grid_boxes(1, 5), other=grid_boxes(1, 5))
def test_equal_to_torchvision(boxes, other):
    """To the rounding of two operations; eps is far below the smallest union."""
    close = {"rtol": 0, "atol": 2e-7}
    ours, theirs = box_iou(boxes[:, None], other), torchvision.ops.box_iou(boxes, other)
    torch.testing.assert_close(ours, theirs, **close)
    ours = giou(boxes[:, None], other)
    torch.testing.assert_close(ours, torchvision.ops.generalized_box_iou(boxes, other), **close)


@given(inner=grid_boxes(COUNT, COUNT, 0, 64), outer=grid_boxes(COUNT, COUNT, -32, 0, 192, 256))
def test_box_inside_another(inner, outer):
    """The IoU is the quotient of the areas, and GIoU is the same."""
    inner = torch.minimum(inner, outer[:, 2:].repeat(1, 2))
    expected = box_area(inner) / box_area(outer)
    assert torch.equal(box_iou(inner, outer), expected)
    torch.testing.assert_close(giou(inner, outer), expected, rtol=0, atol=2e-7)


@pytest.mark.parametrize("name", IOU_FUNCTIONS)
@given(gt_boxes=grid, boxes=any_boxes(COUNT, FAR))
def test_choices_of_the_assigner(name, gt_boxes, boxes):
    """Each u of eq. 9 is finite, in [0, 1], and at most the IoU."""
    values = IOU_FUNCTIONS[name](gt_boxes, boxes)
    assert values.shape == (COUNT, COUNT)
    assert (values >= 0).all() and (values <= 1).all()
    valid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    ious = box_iou(gt_boxes[:, None], boxes)
    assert (values <= ious + 1e-6)[:, valid].all()


@given(boxes=any_boxes(COUNT, FAR))
def test_areas_and_centers(boxes):
    areas = box_area(boxes)
    assert areas.isfinite().all() and (areas >= 0).all()
    assert (areas[~((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))] == 0).all()
    low, high = boxes[:, :2].minimum(boxes[:, 2:]), boxes[:, :2].maximum(boxes[:, 2:])
    centers = box_centers(boxes)
    assert (centers >= low).all() and (centers <= high).all()


@given(boxes=any_boxes(COUNT, 200), points=tensors((COUNT, 2), floats(-200, 200)))
def test_points_in_boxes(boxes, points):
    """Inside means at a positive distance from all sides; centerness is 0 elsewhere."""
    inside = points_inside_boxes(points, boxes)
    near = (points >= boxes[:, :2]).all(1) & (points <= boxes[:, 2:]).all(1)
    assert (near | ~inside).all()
    values = centerness(points, boxes)
    assert (values >= 0).all() and (values <= 1).all()
    assert (values[~near] == 0).all()
    assert not points_inside_boxes(boxes[:, :2], boxes).any()  # on a corner


@given(boxes=grid, points=tensors((COUNT, 2), st.integers(-300, 1600).map(lambda x: x / 8)))
def test_centerness_of_a_mirrored_scene(boxes, points):
    mirrored = torch.stack([-boxes[:, 2], boxes[:, 1], -boxes[:, 0], boxes[:, 3]], 1)
    flipped = points * torch.tensor([-1.0, 1.0])
    assert torch.equal(centerness(flipped, mirrored), centerness(points, boxes))
    assert torch.equal(points_inside_boxes(flipped, mirrored), points_inside_boxes(points, boxes))
    assert (centerness(box_centers(boxes), boxes) == 1).all()


@given(boxes=tensors((COUNT, 4), st.floats(width=32)))
def test_usable_boxes_have_an_area(boxes):
    """Whatever float32 holds, NaN and infinity included."""
    usable = boxes[is_usable_box(boxes)]
    assert usable.isfinite().all()
    areas = box_area(usable)
    assert areas.isfinite().all()
    assert (box_iou(usable, usable.clone()) <= 1).all()
