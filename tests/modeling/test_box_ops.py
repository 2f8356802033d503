"""Geometry of boxes and points, by hand."""

import math

import pytest
import torch

from tood.modeling.box_ops import (
    box_iou,
    boxes_to_distances,
    centerness,
    deltas_to_boxes,
    distances_to_boxes,
    is_usable_box,
    points_inside_boxes,
)


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float32)


@pytest.mark.parametrize(
    ("box", "usable"),
    [
        ([1, 2, 3, 4], True),
        ([-3, -4, -2, -1], True),
        ([0, 0, 1e-6, 1e-6], True),
        ([-1e8, 0, 1e8, 1], True),
        ([0, 0, 1, 1e8 + 8], False),  # the next float32
        ([-math.inf, 0, 1, 1], False),
        ([0, 0, 1, math.nan], False),
        ([3, 2, 3, 4], False),
        ([1, 4, 3, 4], False),
        ([3, 4, 3, 4], False),
        ([3, 2, 1, 4], False),
        ([1, 4, 3, 2], False),
        ([3, 4, 1, 2], False),
    ],
)
def test_usable_boxes(box, usable):
    assert is_usable_box(boxes(box)).tolist() == [usable]
    assert is_usable_box(torch.tensor(box).expand(2, 3, 4)).tolist() == [[usable] * 3] * 2


def test_iou_by_hand():
    a = boxes([0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [5, 5, 5, 5], [10, 10, 0, 0])
    b = boxes([5, 0, 15, 10], [0, 0, 10, 10], [20, 0, 30, 10], [0, 0, 10, 10], [0, 0, 10, 10])
    # 50 of 150 pixels; all; none; a point; an inverted box.
    torch.testing.assert_close(box_iou(a, b), torch.tensor([1 / 3, 1, 0, 0, 0]))
    assert box_iou(a[:, None], b[None]).shape == (5, 5)


def test_iou_is_never_above_one():
    """A soft label above 1 would break the loss; for nearly equal boxes, rounding decides."""
    g = torch.Generator().manual_seed(0)
    a = torch.rand(20000, 4, generator=g) * 1000
    a[:, 2:] = a[:, :2] + torch.rand(20000, 2, generator=g) * 100
    b = a + torch.randint(-2, 3, a.shape, generator=g) * torch.finfo(torch.float32).eps * a
    assert box_iou(a, b).max() <= 1


def test_centerness_by_hand():
    box = boxes([0, 0, 10, 20])
    points = torch.tensor([[5.0, 10.0], [2.0, 10.0], [2.0, 5.0], [0.0, 10.0], [0.0, 0.0], [-1, 3]])
    expected = torch.tensor([1, math.sqrt(2 / 8), math.sqrt(2 / 8 * 5 / 15), 0, 0, 0])
    torch.testing.assert_close(centerness(points, box), expected)
    zero = centerness(torch.tensor([[3.0, 3.0]]), boxes([3, 3, 3, 3]))
    assert zero.item() == 0  # and not 0/0


def test_inside_is_strict():
    points = torch.tensor([[5.0, 5.0], [0.01, 5.0], [0.02, 5.0], [10.0, 5.0]])
    inside = points_inside_boxes(points, boxes([0, 0, 10, 10]))
    assert inside.tolist() == [True, False, True, False]


@pytest.mark.parametrize("distance, expected", [(-30.0, False), (-0.5, False), (0.5, True)])
def test_points_beyond_each_side_are_outside(distance, expected):
    """At the left, top, right and bottom, far from it and near."""
    box = boxes([100, 200, 150, 270])
    for x, y in ((100 + distance, 230), (120, 200 + distance), (150 - distance, 230),
                 (120, 270 - distance)):  # fmt: skip
        assert points_inside_boxes(torch.tensor([[x, y]]), box).tolist() == [expected]


def test_decoding_by_hand():
    point = torch.tensor([[4.0, 6.0]])
    assert distances_to_boxes(point, boxes([1, 2, 3, 4])).tolist() == [[3, 4, 7, 10]]
    # Anchor of center (4, 4) and side 8; half a side to the right, twice as high.
    deltas = boxes([5.0, 0.0, 0.0, 5 * math.log(2)])
    torch.testing.assert_close(deltas_to_boxes(boxes([0, 0, 8, 8]), deltas), boxes([4, -4, 12, 12]))
    huge = deltas_to_boxes(boxes([0, 0, 8, 8]), boxes([0, 0, 1e6, 0]))
    assert huge[0, 2] - huge[0, 0] == pytest.approx(8 * 1000 / 16)


def test_distances_by_hand():
    point, box = torch.tensor([3.0, 5.0]), torch.tensor([1.0, 2.0, 9.0, 4.0])
    distances = torch.tensor([2.0, 3.0, 6.0, -1.0])  # the point is below the box
    torch.testing.assert_close(boxes_to_distances(point, box), distances)
    torch.testing.assert_close(distances_to_boxes(point, distances), box)


def test_images_of_a_batch_are_decoded_as_one_by_one():
    generator = torch.Generator().manual_seed(0)
    anchors, deltas = torch.rand(2, 2, 5, 4, generator=generator)
    points = anchors[..., :2]
    for function, first in (
        (deltas_to_boxes, anchors),
        (distances_to_boxes, points),
        (boxes_to_distances, points),
        (centerness, points),
    ):
        found = function(first, deltas)
        for i in range(2):
            torch.testing.assert_close(found[i], function(first[i], deltas[i]))
