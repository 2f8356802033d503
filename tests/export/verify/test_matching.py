import numpy as np
import pytest

from tests.export.verify.helpers import detected
from tood.export.verify.matching import (
    Limits,
    differences,
    match_by_iou,
    match_within,
    pairwise_iou,
)

LIMITS = Limits(box=1.0, score=0.1)
BOX = [10, 20, 30, 40]


def test_detections_match_by_class_box_and_score_in_any_order():
    expected = detected((BOX, 0.9, 1), ([50, 50, 60, 60], 0.8, 0), (BOX, 0.7, 2))
    found = detected((BOX, 0.72, 2), (BOX, 0.88, 1), ([50, 50.5, 60, 60], 0.8, 0))
    assert match_within(expected, found, LIMITS) == [(0, 1), (1, 2), (2, 0)]


@pytest.mark.parametrize(
    "other",
    [(BOX, 0.9, 0), (BOX, 0.79, 1), ([10, 20, 30, 41.01], 0.9, 1)],
    ids=["class", "score", "box"],
)
def test_each_difference_alone_prevents_a_match(other):
    assert match_within(detected((BOX, 0.9, 1)), detected(other), LIMITS) == []


def test_a_detection_matches_once():
    pairs = match_within(detected((BOX, 0.9, 1)), detected((BOX, 0.9, 1), (BOX, 0.9, 1)), LIMITS)
    assert len(pairs) == 1


def test_as_many_as_possible_match_where_the_nearest_first_would_leave_one_over():
    def at(x):
        return [x, 0, x + 10, 10], 0.5, 0

    expected, found = detected(at(0.0), at(0.9)), detected(at(0.35), at(-0.5))
    boxes, _ = differences(expected, found)
    assert boxes.argmin() == 0, "the nearest pair would leave two that are 1.4 px apart"
    assert match_within(expected, found, LIMITS) == [(0, 1), (1, 0)]


def test_no_detections():
    none, one = detected(), detected((BOX, 0.9, 1))
    for first, second in ((none, none), (none, one), (one, none)):
        assert match_within(first, second, LIMITS) == []
        assert match_by_iou(first, second) == []


def test_iou_by_hand():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [3, 3, 3, 9]])
    # 50 of 150 square pixels.
    expected = [1, 1 / 3, 0, 0]
    np.testing.assert_allclose(pairwise_iou(boxes[:1], boxes)[0], expected, rtol=1e-12)
    assert pairwise_iou(boxes[3:], boxes[3:])[0, 0] == 0


def test_loose_matching_takes_the_largest_iou_first_and_any_score():
    expected = detected(([0, 0, 10, 10], 0.9, 0), ([0, 0, 10, 8], 0.8, 0))
    found = detected(([0, 0, 10, 8.5], 0.1, 0), ([0, 0, 10, 8], 0.9, 1))
    assert match_by_iou(expected, found) == [(1, 0)]
    # One counterpart each: the other takes what remains, from an IoU of 0.5 on.
    found = detected(([0, 0, 10, 8.5], 0.1, 0), ([0, 0, 10, 5], 0.2, 0))
    assert match_by_iou(expected, found) == [(1, 0), (0, 1)]
    found = detected(([0, 0, 10, 8.5], 0.1, 0), ([0, 0, 10, 4.9], 0.2, 0))
    assert match_by_iou(expected, found) == [(1, 0)]
