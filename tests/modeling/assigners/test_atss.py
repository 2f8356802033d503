"""ATSS against a slow oracle, and in corner cases."""

import dataclasses
import warnings

import pytest
import torch

from tests.helpers import square_anchors
from tests.modeling.assigners.oracles import (
    COUNTS,
    SHAPES,
    assign_anchors,
    atss_oracle,
    random_scene,
    same,
)
from tood.modeling.assigners import ASSIGNER_REGISTRY, AssignerInput, ATSSAssigner


@pytest.mark.parametrize("seed", range(4))
def test_atss_equals_oracle(seed):
    *_, gt_boxes, gt_classes, anchors = random_scene(seed, 6)
    assignment = assign_anchors(ATSSAssigner(), anchors, COUNTS, gt_boxes, gt_classes)
    assert assignment.matched_idxs.tolist() == atss_oracle(anchors, COUNTS, gt_boxes)
    assert (assignment.matched_idxs >= 0).any()
    assert assignment.norm_alignment_metrics is None


def test_atss_spread_is_unbiased():
    """Of two candidates none reaches mean + |u1 - u2| / sqrt(2); the biased one gives + / 2."""
    anchors = torch.tensor([[0.0, 0.0, 64.0, 64.0], [0.0, 0.0, 64.0, 80.0]])
    gt = torch.tensor([[0.0, 0.0, 64.0, 66.0]])
    assignment = assign_anchors(ATSSAssigner(), anchors, [2], gt, torch.tensor([0]))
    assert assignment.matched_idxs.tolist() == [-1, -1]


@pytest.mark.parametrize("counts", [[4], [1, 1, 1, 1], [1]])
def test_atss_with_levels_smaller_than_topk(counts):
    """A single candidate has no standard deviation; the threshold must not be NaN."""
    anchors = torch.tensor([[0.0, 0.0, 64.0, 64.0]]).repeat(sum(counts), 1)
    anchors += torch.arange(sum(counts))[:, None] * 3.0
    gt = torch.tensor([[0.0, 0.0, 64.0, 64.0]])
    assignment = assign_anchors(ATSSAssigner(), anchors, counts, gt, torch.tensor([7]))
    assert assignment.matched_idxs[0] == 0


def test_point_on_the_edge_of_a_ground_truth():
    """ATSS at an anchor whose center lies on the edge and in a corner: no positive, no error."""
    anchors = torch.cat(square_anchors(SHAPES))
    gt = torch.tensor([[8.0, 8.0, 16.0, 16.0]])
    assignment = assign_anchors(ATSSAssigner(), anchors, COUNTS, gt, torch.tensor([0]))
    assert (assignment.matched_idxs == -1).all()


@pytest.mark.parametrize("chunk_size", [1, 2, 64])
def test_chunk_size_does_not_change_the_result(chunk_size):
    *_, gt_boxes, gt_classes, anchors = random_scene(0, 23)
    arguments = (anchors, COUNTS, gt_boxes, gt_classes)
    same(
        assign_anchors(ATSSAssigner(chunk_size=chunk_size), *arguments),
        assign_anchors(ATSSAssigner(), *arguments),
    )


@pytest.mark.parametrize("num_points", [0, 1, 5])
@pytest.mark.parametrize("num_gts", [0, 1, 3])
def test_fewer_points_than_topk(num_points, num_gts):
    *_, gt_boxes, gt_classes, anchors = random_scene(0, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of the spread of nothing
        assignment = assign_anchors(
            ATSSAssigner(),
            anchors[:num_points],
            [num_points],
            gt_boxes[:num_gts],
            gt_classes[:num_gts],
        )
    assert assignment.matched_idxs.shape == (num_points,)
    assert assignment.matched_idxs.dtype == torch.int64
    if num_gts == 0:
        assert (assignment.matched_idxs == -1).all()


def test_one_level_alone():
    """Nothing depends on another level's stride."""
    *_, gt_boxes, gt_classes, anchors = random_scene(0, 6)
    count = COUNTS[0]
    assignment = assign_anchors(ATSSAssigner(), anchors[:count], [count], gt_boxes, gt_classes)
    assert assignment.matched_idxs.tolist() == atss_oracle(anchors[:count], [count], gt_boxes)


def test_identical_ground_truths_go_to_the_first():
    *_, gt_boxes, _, anchors = random_scene(1, 1)
    assignment = assign_anchors(
        ATSSAssigner(), anchors, COUNTS, gt_boxes.repeat(2, 1), torch.tensor([1, 2])
    )
    assert set(assignment.matched_idxs.tolist()) == {-1, 0}


def test_degenerate_ground_truths_get_nothing():
    *_, gt_boxes, gt_classes, anchors = random_scene(2, 6)
    gt_boxes[0, 2:] = gt_boxes[0, :2]  # empty
    gt_boxes[1] = gt_boxes[1, [2, 3, 0, 1]]  # inverted
    matched = assign_anchors(ATSSAssigner(), anchors, COUNTS, gt_boxes, gt_classes).matched_idxs
    assert not {0, 1} & set(matched.tolist())
    assert (matched >= 2).any()


@pytest.mark.parametrize("count", [2, 4])
def test_level_sizes_must_add_up(count):
    inputs = AssignerInput.from_anchors([torch.zeros(3, 4)], [8])
    inputs = dataclasses.replace(inputs, num_anchors_per_level=[count])
    message = rf"R = {count}, the sum of num_anchors_per_level, not \(3, 4\)"
    with pytest.raises(ValueError, match=message):
        ATSSAssigner().assign(inputs, torch.zeros(1, 4), torch.zeros(1).long())


def test_registered():
    assert ASSIGNER_REGISTRY.get("ATSSAssigner") is ATSSAssigner
