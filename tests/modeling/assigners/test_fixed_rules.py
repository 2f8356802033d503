"""The rules of FCOS, FoveaBox and RetinaNet against slow oracles."""

import itertools
import math

import pytest
import torch
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, pairwise_iou

from tests.helpers import STRIDES
from tests.modeling.assigners.oracles import SHAPES, iou, make_assigner_input, random_ground_truth
from tood.modeling.assigners import AssignerInput, FCOSAssigner, FoveaBoxAssigner, MaxIoUAssigner


def smallest(claims: list[list[int]], gt_boxes: torch.Tensor) -> list[int]:
    """Of the ground truths that claim a point the one of least area, the first of equals."""
    area = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in gt_boxes.tolist()]
    return [min(own, key=lambda m: (area[m], m), default=-1) for own in claims]


def level_of(inputs: AssignerInput, r: int) -> int:
    return STRIDES.index(int(inputs.strides[r]))


def fcos_oracle(inputs, gt_boxes, radius) -> list[int]:
    limits = [-1, 64, 128, 256, 512, math.inf]
    claims = []
    for r, (x, y) in enumerate(inputs.centers.tolist()):
        level, own = level_of(inputs, r), []
        for m, (x1, y1, x2, y2) in enumerate(gt_boxes.tolist()):
            sides = (x - x1, y - y1, x2 - x, y2 - y)
            reach = radius * STRIDES[level] if radius else math.inf
            middle = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2)) < reach
            if min(sides) > 0 and middle and limits[level] <= max(sides) <= limits[level + 1]:
                own.append(m)
        claims.append(own)
    return smallest(claims, gt_boxes)


def fovea_cells(start: float, end: float, sigma: float, stride: int, count: int) -> range:
    """The rows or columns of a map that a box owns, clamped to the map as in the authors' code."""
    middle, half = (start + end) / 2 / stride, sigma * (end - start) / 2 / stride
    first, last = math.ceil(middle - half - 0.5), math.floor(middle + half - 0.5)
    return range(min(max(first, 0), count - 1), min(max(last, 0), count - 1) + 1)


def fovea_oracle(inputs, gt_boxes, sigma) -> list[int]:
    ranges = [(1, 64), (32, 128), (64, 256), (128, 512), (256, 2048)]
    claims: list[list[int]] = []
    for stride, (rows, columns), (low, high) in zip(STRIDES, SHAPES, ranges, strict=True):
        for row, column in itertools.product(range(rows), range(columns)):
            own = []
            for m, (x1, y1, x2, y2) in enumerate(gt_boxes.tolist()):
                near_x = column in fovea_cells(x1, x2, sigma, stride, columns)
                near_y = row in fovea_cells(y1, y2, sigma, stride, rows)
                if low <= math.sqrt((x2 - x1) * (y2 - y1)) <= high and near_x and near_y:
                    own.append(m)
            claims.append(own)
    return smallest(claims, gt_boxes)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("radius", [0.0, 1.5])
def test_fcos_equals_oracle(seed, radius):
    inputs, (boxes, classes) = make_assigner_input(True), random_ground_truth(seed, 12)
    assignment = FCOSAssigner(radius, chunk_size=5).assign(inputs, boxes, classes)
    assert assignment.matched_idxs.tolist() == fcos_oracle(inputs, boxes, radius)
    assert (assignment.matched_idxs >= 0).any()
    assert assignment.alignment_metrics is assignment.norm_alignment_metrics is None


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("sigma", [0.4, 0.8])
def test_foveabox_equals_oracle(seed, sigma):
    inputs, (boxes, classes) = make_assigner_input(True), random_ground_truth(seed, 12)
    assignment = FoveaBoxAssigner(sigma, chunk_size=5).assign(inputs, boxes, classes)
    assert assignment.matched_idxs.tolist() == fovea_oracle(inputs, boxes, sigma)
    assert (assignment.matched_idxs >= 0).any()
    assert assignment.alignment_metrics is assignment.norm_alignment_metrics is None


def test_foveabox_at_the_border():
    """A central part that has no point because it lies beyond the last one, by hand."""
    inputs = make_assigner_input(True)  # 96 x 128 pixels; P6 has 2 x 2 points from (32, 32) on
    box = torch.tensor([[0.0, 0.0, 128.0, 15.0]])  # 44 pixels: P3 and P4
    matched = FoveaBoxAssigner().assign(inputs, box, torch.tensor([0])).matched_idxs
    found = inputs.centers[matched == 0].tolist()
    # P3 has points from 4 on, P4 from 8 on: the central part spans 38.4 to 89.6 and 4.5 to 10.5.
    assert found == [[40.0 + 16 * i, 8.0] for i in range(4)]
    high = torch.tensor([[0.0, -8.0, 128.0, 7.0]])  # its central part ends at 2.5
    matched = FoveaBoxAssigner().assign(inputs, high, torch.tensor([0])).matched_idxs
    found = inputs.centers[matched == 0].tolist()
    assert found == [[44.0 + 8 * i, 4.0] for i in range(6)] + [
        [40.0 + 16 * i, 8.0] for i in range(4)
    ]


@pytest.mark.parametrize("shift", [200.0, -200.0, 1e6])
def test_foveabox_gives_nothing_to_boxes_outside_of_the_map(shift):
    """Clamped to the map, they would own its border."""
    inputs = make_assigner_input(True)
    box = torch.tensor([[0.0, 0.0, 64.0, 64.0]])
    boxes = torch.cat([box + torch.tensor([shift, 0, shift, 0]), box, box + shift])
    matched = FoveaBoxAssigner().assign(inputs, boxes, torch.tensor([0, 1, 2])).matched_idxs
    assert set(matched.tolist()) == {-1, 1}


@pytest.mark.parametrize("seed", range(6))
def test_max_iou_by_hand_and_by_detectron2(seed):
    """The thresholds, and the best anchors of each ground truth."""
    inputs, (boxes, classes) = make_assigner_input(False), random_ground_truth(seed, 6)
    assignment = MaxIoUAssigner().assign(inputs, boxes, classes)
    ious = [[iou(box, anchor) for anchor in inputs.anchors.tolist()] for box in boxes.tolist()]
    for r, matched in enumerate(assignment.matched_idxs.tolist()):
        own = [row[r] for row in ious]
        is_best = any(row[r] == pytest.approx(max(row), rel=1e-5) for row in ious)
        if max(own) >= 0.5 or is_best:
            assert own[matched] == pytest.approx(max(own))
        else:
            assert matched == (-1 if max(own) < 0.4 else -2)  # background, ignored
    matcher = Matcher([0.4, 0.5], [0, -1, 1], allow_low_quality_matches=True)
    _, kinds = matcher(pairwise_iou(Boxes(boxes), Boxes(inputs.anchors)))
    assert ((assignment.matched_idxs >= 0) == (kinds == 1)).all()


@pytest.mark.parametrize("useless", [[1e5, 1e5, 1e5 + 10, 1e5 + 10], [10.0, 10.0, 10.0, 10.0]])
def test_max_iou_gives_nothing_to_a_box_that_overlaps_no_anchor(useless):
    """Every anchor would be its best otherwise, alone and next to another box."""
    inputs = make_assigner_input(False)
    assignment = MaxIoUAssigner().assign(inputs, torch.tensor([useless]), torch.tensor([1]))
    assert (assignment.matched_idxs == -1).all()
    usual = torch.tensor([[0.0, 0.0, 64.0, 64.0]])
    alone = MaxIoUAssigner().assign(inputs, usual, torch.tensor([0]))
    both = torch.cat([usual, torch.tensor([useless])])
    together = MaxIoUAssigner().assign(inputs, both, torch.tensor([0, 1]))
    assert (alone.matched_idxs >= 0).any()
    assert together.matched_idxs.tolist() == alone.matched_idxs.tolist()


@pytest.mark.parametrize("assigner", [FCOSAssigner(), FoveaBoxAssigner(), MaxIoUAssigner()])
def test_no_random_ground_truth(assigner):
    empty = torch.zeros(0, dtype=torch.int64)
    assignment = assigner.assign(make_assigner_input(True), torch.zeros(0, 4), empty)
    assert (assignment.matched_idxs == -1).all() and assignment.matched_idxs.dtype == torch.int64


@pytest.mark.parametrize("rule", [FCOSAssigner, FoveaBoxAssigner])
def test_chunk_size_does_not_change_the_result(rule):
    inputs, (boxes, classes) = make_assigner_input(True), random_ground_truth(3, 40)
    boxes[20:] = boxes[:20]  # equal areas: the first wins
    whole = rule(chunk_size=1000).assign(inputs, boxes, classes).matched_idxs
    for size in (1, 7):
        part = rule(chunk_size=size).assign(inputs, boxes, classes).matched_idxs
        assert part.tolist() == whole.tolist()
    assert whole.max() < 20


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: FCOSAssigner(sizes_of_interest=[64]), "sizes_of_interest has 1 limits, but 5"),
        (lambda: FoveaBoxAssigner(scale_ranges=[(1, 2)]), "scale_ranges has 1 pairs, but 5 levels"),
        (lambda: MaxIoUAssigner(0.6, 0.5), "must be in order"),
    ],
)
def test_arguments_that_do_not_fit(build, message):
    with pytest.raises(ValueError, match=message):
        build().assign(make_assigner_input(True), *random_ground_truth(0, 2))
