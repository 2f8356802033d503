"""Who gets which point where each ground truth is promised some."""

import pytest
import torch

from tests.modeling.assigners.oracles import iou, make_assigner_input
from tood.modeling.assigners import TaskAlignedAssigner
from tood.modeling.assigners.min_positives import (
    EXTRA_CANDIDATES,
    MAX_ROUNDS,
    assign_min_positives,
    nearest_unassigned_points,
)

POINTS = torch.stack([torch.arange(40.0), torch.zeros(40)], dim=1)


def give(boxes: list[list[float]], minimum: int, matched: dict[int, int] | None = None):
    """The ground truth that each of 40 points in a row is given to."""
    matched_idxs = torch.full((40,), -1)
    for point, owner in (matched or {}).items():
        matched_idxs[point] = owner
    nearest = nearest_unassigned_points(
        POINTS, matched_idxs >= 0, torch.tensor(boxes), minimum + EXTRA_CANDIDATES, 16
    )
    return assign_min_positives(matched_idxs, nearest, minimum).tolist()


def test_who_ranks_a_point_highest_gets_it():
    """Both ask for points 0 and 1, each for another one first; of points 2 and 3, for 2 first."""
    assert give([[0.5, -1, 0.7, 1], [0.3, -1, 0.5, 1]], 2)[:5] == [1, 0, 0, 1, -1]
    assert give([[0.3, -1, 0.5, 1], [0.5, -1, 0.7, 1]], 2)[:5] == [0, 1, 0, 1, -1]


def test_of_those_that_rank_a_point_alike_the_first_gets_it():
    assert give([[0.6, -1, 0.7, 1], [0.9, -1, 1.1, 1]], 1)[:3] == [1, 0, -1]


def test_rounds_are_limited():
    """Of equal boxes one gets its point in each round."""
    given = give([[9.9, -1, 10.1, 1]] * 12, 1)
    assert MAX_ROUNDS == 8
    assert sorted(owner for owner in given if owner >= 0) == list(range(8))


def test_candidates_are_limited():
    """Equal boxes that ask for 3 points share the same 3 + 16."""
    given = give([[19.9, -1, 20.1, 1]] * 12, 3)
    assert sum(owner >= 0 for owner in given) == 19
    assert [given.count(m) for m in range(7)] == [3] * 6 + [1]


def test_points_that_are_assigned_stay():
    """A ground truth with enough asks for none; the other ones' points are not given."""
    given = give([[9.9, -1, 10.1, 1]] * 2, 2, {10: 0, 9: 0, 11: 1})
    assert given[9:12] == [-1, -1, -1]
    assert [m for m in given if m >= 0] == [1]
    assert given.index(1) in (8, 12)


def test_assigned_points_come_last():
    assigned = torch.zeros(40, dtype=torch.bool)
    assigned[:3] = True
    nearest = nearest_unassigned_points(POINTS, assigned, torch.tensor([[0.0, 0, 0, 0]]), 99, 1)
    assert nearest.shape == (1, 40)
    assert nearest[0, :37].tolist() == list(range(3, 40))
    assert set(nearest[0, 37:].tolist()) == {0, 1, 2}


def test_order_decides_only_between_points_at_one_place():
    points = torch.tensor([[1.0, 0], [0, 0], [0, 0], [1e-3, 0]])
    nothing = torch.zeros(4, dtype=torch.bool)
    nearest = nearest_unassigned_points(points, nothing, torch.tensor([[0.0, 0, 0, 0]]), 4, 1)
    assert nearest.tolist() == [[1, 2, 3, 0]]


def test_one_that_has_some_asks_for_the_rest():
    """Of 4 promised points it has 1, and gets the 3 nearest others."""
    given = give([[9.9, -1, 10.1, 1]], 4, {10: 0})
    assert [point for point, owner in enumerate(given) if owner == 0] == [8, 9, 11]


@pytest.mark.parametrize("first", [True, False])
def test_points_of_others_are_not_asked_for(first):
    """A tiny box whose nearest points all belong to a large one gets the next nearest."""
    inputs, large = make_assigner_input(False), [2.0, 2.0, 94.0, 94.0]
    inputs.boxes[:] = torch.tensor(large)
    tiny = [50.5, 50.5, 51.0, 51.0]
    boxes = torch.tensor([large, tiny] if first else [tiny, large])
    rule = TaskAlignedAssigner(topk=1000, min_positives=1)
    found = rule.assign(inputs, boxes, torch.tensor([0, 1]))
    mine = found.matched_idxs == int(first)
    own = inputs.centers[found.matched_idxs == 1 - int(first)]
    assert len(own) > 100 and mine.sum() == 1
    outside = [(96.0, 48.0), (48.0, 0.0), (96.0, 56.0)]
    assert tuple(inputs.centers[mine][0].tolist()) in outside


def test_candidates_of_the_assigner_are_limited():
    """Equal boxes that are promised 17 points share 17 + 16."""
    inputs = make_assigner_input(False)
    boxes = torch.tensor([[50.5, 50.5, 51.0, 51.0]]).repeat(12, 1)
    rule = TaskAlignedAssigner(min_positives=17)
    found = rule.assign(inputs, boxes, torch.zeros(12, dtype=torch.int64))
    assert (found.matched_idxs >= 0).sum() == 33


def test_metric_of_given_points():
    """t is that of the prediction there, by hand."""
    inputs, tiny = make_assigner_input(False), [33.0, 33.0, 39.0, 39.0]
    found = TaskAlignedAssigner(min_positives=4).assign(
        inputs, torch.tensor([tiny]), torch.tensor([3])
    )
    own = (found.matched_idxs == 0).nonzero().flatten().tolist()
    assert len(own) == 4
    overlaps = [iou(inputs.boxes[r].tolist(), tiny) for r in own]
    assert max(overlaps) > 0.01
    for r, u in zip(own, overlaps, strict=True):
        expected = inputs.scores[r, 3].item() * u**6
        assert found.alignment_metrics[r].item() == pytest.approx(expected, rel=1e-4, abs=1e-12)
