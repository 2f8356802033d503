"""Training targets of a batch: padding, independence of the batch, lookup of classes and boxes."""

import pytest
import torch

from tests.helpers import STRIDES, make_ground_truth, square_anchors
from tood.modeling.assigners import Assigner, Assignment, TaskAlignedAssigner
from tood.modeling.structures import AnchorGrid, FlatPredictions
from tood.modeling.targets import compute_targets

SHAPES = [(12, 16), (6, 8), (3, 4), (2, 2), (1, 1)]


def random_predictions(n: int, shapes, num_classes=5):
    r = sum(h * w for h, w in shapes)
    strides = make_grid(shapes).strides
    center = torch.rand(n, r, 2) * 10
    half = torch.rand(n, r, 2) * 4 + 0.5
    boxes = torch.cat([center - half, center + half], dim=2) * strides
    return FlatPredictions(torch.rand(n, r, num_classes), boxes)


def make_grid(shapes) -> AnchorGrid:
    return AnchorGrid.from_levels(square_anchors(shapes), shapes, STRIDES)


def test_assignment_does_not_depend_on_the_batch():
    """Image 0 alone equals image 0 next to another one."""
    predictions = random_predictions(2, SHAPES)
    boxes = torch.rand(4, 4) * 20
    boxes[:, 2:] += 30
    ground_truth = [
        make_ground_truth([[10.0, 10.0, 80.0, 70.0]], [2]),
        make_ground_truth(boxes, [0, 1, 2, 3]),
    ]
    grid, sizes = make_grid(SHAPES), [(96, 128), (96, 128)]
    assigner = TaskAlignedAssigner()
    both, _ = compute_targets(assigner, predictions, grid, sizes, 32, ground_truth)
    first = FlatPredictions(predictions.scores[:1], predictions.boxes[:1])
    alone, _ = compute_targets(assigner, first, grid, sizes[:1], 32, ground_truth[:1])
    assert (alone.gt_classes[0] < 5).any()
    assert torch.equal(both.gt_classes[0], alone.gt_classes[0])
    assert torch.equal(both.norm_alignment_metrics[0], alone.norm_alignment_metrics[0])


def test_cells_of_the_padding_are_ignored():
    """A 50x61 image, 64x64 when rounded up to 32, in a batch of 96x128."""
    predictions = random_predictions(1, SHAPES)
    ground_truth = [make_ground_truth([[0.0, 0.0, 128.0, 96.0]], [1])]
    labels, _ = compute_targets(
        TaskAlignedAssigner(topk=1000),
        predictions,
        make_grid(SHAPES),
        [(50, 61)],
        32,
        ground_truth,
    )
    maps = [
        x.view(h, w)
        for x, (h, w) in zip(
            labels.gt_classes[0].split([h * w for h, w in SHAPES]), SHAPES, strict=True
        )
    ]
    for level, stride in zip(maps, STRIDES, strict=True):
        rows, columns = -(-64 // stride), -(-64 // stride)
        assert (level[:rows, :columns] >= 0).all()
        assert (level[rows:] == -1).all() and (level[:, columns:] == -1).all()


class FixedAssigner(Assigner):
    """Gives the first points the matches of the test."""

    def __init__(self, *matched_idxs):
        self.matched_idxs = matched_idxs

    def assign(self, inputs, gt_boxes, gt_classes):
        matched_idxs = torch.full((len(inputs.centers),), -1)
        matched_idxs[: len(self.matched_idxs)] = torch.tensor(self.matched_idxs)
        return Assignment(matched_idxs)


def test_matches_become_classes_and_boxes():
    """A ground truth's class and box; K and zeros for background; -1 and zeros for ignored."""
    boxes, classes = [[0.0, 0.0, 20.0, 30.0], [5.0, 5.0, 60.0, 70.0]], [4, 0]
    targets, _ = compute_targets(
        FixedAssigner(1, -1, 0, -2),
        random_predictions(1, SHAPES),
        make_grid(SHAPES),
        [(96, 128)],
        32,
        [make_ground_truth(boxes, classes)],
    )
    assert targets.gt_classes[0, :5].tolist() == [0, 5, 4, -1, 5]
    expected = [boxes[1], [0] * 4, boxes[0], [0] * 4, [0] * 4]
    assert targets.gt_boxes[0, :5].tolist() == expected
    assert targets.norm_alignment_metrics is None


def test_no_ground_truth():
    targets, _ = compute_targets(
        TaskAlignedAssigner(),
        random_predictions(1, SHAPES),
        make_grid(SHAPES),
        [(96, 128)],
        32,
        [make_ground_truth([], [])],
    )
    assert (targets.gt_classes == 5).all()
    assert (targets.norm_alignment_metrics == 0).all()


@pytest.mark.parametrize(("size", "divisor"), [((64, 64), 32), ((56, 60), 0)])
def test_multiples_of_the_divisor_are_not_rounded_up(size, divisor):
    """And nothing is where the backbone takes any size, whose divisor is 0."""
    targets, _ = compute_targets(
        FixedAssigner(),
        random_predictions(1, SHAPES),
        make_grid(SHAPES),
        [size],
        divisor,
        [make_ground_truth([], [])],
    )
    level = targets.gt_classes[0, : 12 * 16].view(12, 16)
    rows, columns = (-(-side // 8) for side in size)
    assert (level[:rows, :columns] == 5).all()
    assert (level[rows:] == -1).all() and (level[:, columns:] == -1).all()


class AlignedAssigner(FixedAssigner):
    """With metrics of one half everywhere, computed from the scores."""

    def assign(self, inputs, gt_boxes, gt_classes):
        matched_idxs = super().assign(inputs, gt_boxes, gt_classes).matched_idxs
        half = inputs.scores[:, 0] * 0 + 0.5
        return Assignment(matched_idxs, half, half)


def test_points_of_an_unusable_box_become_background():
    """Ignored points stay ignored; no target has a gradient."""
    predictions = random_predictions(1, SHAPES)
    predictions.scores.requires_grad_()
    targets, (assignment,) = compute_targets(
        AlignedAssigner(0, 1, -2),
        predictions,
        make_grid(SHAPES),
        [(96, 128)],
        32,
        [make_ground_truth([[0.0, 0.0, 20.0, 30.0], [5.0, 5.0, 5.0, 5.0]], [4, 0])],
    )
    assert targets.gt_classes[0, :3].tolist() == [4, 5, -1]
    assert targets.norm_alignment_metrics[0, :3].tolist() == [0.5, 0, 0.5]
    assert assignment.alignment_metrics[:3].tolist() == [0.5, 0, 0.5]
    assert not targets.norm_alignment_metrics.requires_grad


def test_one_ground_truth_for_each_image():
    ground_truth = [make_ground_truth([], [])] * 2
    predictions, grid = random_predictions(1, SHAPES), make_grid(SHAPES)
    with pytest.raises(ValueError, match="zip"):
        compute_targets(FixedAssigner(), predictions, grid, [(96, 128)], 32, ground_truth)


class WitnessAssigner(FixedAssigner):
    """Keeps what it was given."""

    def assign(self, inputs, gt_boxes, gt_classes):
        self.inputs = inputs
        return super().assign(inputs, gt_boxes, gt_classes)


def test_points_are_not_copied_where_none_is_left_out():
    """Gathering all rows would cost memory and time, most of all for one image at a time."""
    predictions, grid = random_predictions(1, SHAPES), make_grid(SHAPES)
    assigner = WitnessAssigner()
    for size, shared in (((96, 128), True), ((64, 128), False)):
        compute_targets(assigner, predictions, grid, [size], 32, [make_ground_truth([], [])])
        assert (assigner.inputs.boxes.data_ptr() == predictions.boxes.data_ptr()) == shared
        assert (assigner.inputs.anchors.data_ptr() == grid.anchors.data_ptr()) == shared
