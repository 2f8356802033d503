"""Near ties, each constructed by hand, next to a real difference of the same kind."""

import numpy as np
import pytest
import torch

from tests.export.verify.helpers import detected
from tood.export.verify.matching import Detected, Limits, match_within
from tood.export.verify.near_ties import (
    LevelPredictions,
    PostprocessingSettings,
    TieRange,
    explain,
    possible_outcomes,
)
from tood.modeling.postprocessing import postprocess_single_image

SETTINGS = PostprocessingSettings(
    score_threshold=0.05, topk=1000, nms_threshold=0.6, max_detections=100
)
SIZE, TIE = (200, 200), TieRange()
A, FAR = [0, 0, 100, 100], [120, 120, 180, 180]


def level(*rows, classes=1, centerness=None):
    """Predictions from rows (box, score, class)."""
    boxes, scores, labels = zip(*rows, strict=True)
    table = np.zeros((len(rows), classes))
    table[np.arange(len(rows)), labels] = scores
    center = None if centerness is None else np.array(centerness, float)[:, None]
    return LevelPredictions(table, np.array(boxes, float), center)


def outcome_by_score(*levels, settings=SETTINGS, tie=TIE, size=SIZE):
    """For each candidate, best first: "yes", "no" or "tie"."""
    outcome = possible_outcomes(list(levels), size, settings, tie)
    return [
        "yes" if certain else "tie" if possible else "no"
        for certain, possible in zip(outcome.certain, outcome.possible, strict=True)
    ]


# The IoU of A and a box of the same width is its height / 100.
@pytest.mark.parametrize(
    ("height", "expected"),
    [(60.02, "no"), (60.005, "tie"), (60.0, "tie"), (59.995, "tie"), (59.98, "yes")],
)
def test_iou_at_the_nms_threshold(height, expected):
    found = outcome_by_score(level((A, 0.9, 0), ([0, 0, 100, height], 0.5, 0)))
    assert found == ["yes", expected]


def test_iou_of_small_boxes_and_of_files_with_larger_differences_is_less_certain():
    small = level(([0, 0, 5, 5], 0.9, 0), ([0, 0, 5, 3.002], 0.5, 0))  # 0.6004
    assert outcome_by_score(small) == ["yes", "no"]
    assert outcome_by_score(small, tie=TieRange(box=2e-3)) == ["yes", "tie"]


def test_the_rounding_of_the_models_nms_counts():
    """It moves class 79 by 79 * 1001 pixels, where float32 has steps of 0.008."""
    boxes = ([0, 0, 5, 5], 0.9), ([0, 0, 5, 3.002], 0.5), ([900, 900, 1000, 1000], 0.9)
    last = level(*((box, score, 79) for box, score in boxes), classes=80)
    assert outcome_by_score(last, size=(1000, 1000)) == ["yes", "yes", "tie"]
    first = level(*((box, score, 0) for box, score in boxes), classes=80)
    assert outcome_by_score(first, size=(1000, 1000)) == ["yes", "yes", "no"]


@pytest.mark.parametrize(("score", "expected"), [(0.9 - 5e-7, "tie"), (0.9 - 1e-4, "no")])
def test_two_scores_that_decide_which_box_suppresses_the_other(score, expected):
    found = outcome_by_score(level((A, 0.9, 0), ([0, 0, 100, 90], score, 0)))
    assert found == (["tie", "tie"] if expected == "tie" else ["yes", "no"])


def test_equal_scores_of_boxes_that_do_not_overlap_are_no_tie():
    assert outcome_by_score(level((A, 0.9, 0), (FAR, 0.9, 0))) == ["yes", "yes"]
    # Nor are those of two classes.
    assert outcome_by_score(level((A, 0.9, 0), (A, 0.9, 1), classes=2)) == ["yes", "yes"]


def test_a_tie_passes_on_to_what_depends_on_it():
    """The second box hangs on a tie with the first, and suppresses the third."""
    rows = (A, 0.9, 0), ([0, 0, 100, 60], 0.5, 0), ([0, 0, 100, 50], 0.4, 0)
    assert outcome_by_score(level(*rows)) == ["yes", "tie", "tie"]
    # What a certain box suppresses does not care.
    rows = (A, 0.9, 0), ([0, 0, 100, 60], 0.5, 0), ([0, 0, 100, 70], 0.4, 0)
    assert outcome_by_score(level(*rows)) == ["yes", "tie", "no"]


@pytest.mark.parametrize(
    ("score", "expected"),
    [(0.05 - 1e-5, []), (0.05 - 5e-7, ["tie"]), (0.05 + 5e-7, ["tie"]), (0.05 + 1e-5, ["yes"])],
)
def test_score_threshold(score, expected):
    assert outcome_by_score(level((A, score, 0))) == expected


def test_centerness_is_multiplied_after_the_threshold():
    rows = (A, 0.06, 0), (FAR, 0.04, 0)
    found = possible_outcomes([level(*rows, centerness=[0.1, 1.0])], SIZE, SETTINGS, TIE)
    np.testing.assert_allclose(found.candidates.scores, [0.006])
    assert found.certain.tolist() == [True]


@pytest.mark.parametrize(
    ("gap", "expected"), [(5e-7, ["yes", "tie", "tie"]), (1e-4, ["yes", "yes"])]
)
def test_the_last_one_of_a_levels_top_k(gap, expected):
    boxes = [[0, 0, 20, 20], [40, 0, 60, 20], [80, 0, 100, 20]]
    rows = [(box, score, 0) for box, score in zip(boxes, (0.9, 0.5, 0.5 - gap), strict=True)]
    assert outcome_by_score(level(*rows), settings=SETTINGS._replace(topk=2)) == expected
    # Two levels have two each.
    two = outcome_by_score(level(*rows[:2]), level(rows[2]), settings=SETTINGS._replace(topk=2))
    assert two == ["yes", "yes", "yes"]


@pytest.mark.parametrize(
    ("gap", "expected"), [(5e-7, ["yes", "tie", "tie"]), (1e-4, ["yes", "yes", "no"])]
)
def test_the_last_detection_of_an_image(gap, expected):
    boxes = [[0, 0, 20, 20], [40, 0, 60, 20], [80, 0, 100, 20]]
    rows = [(box, score, 0) for box, score in zip(boxes, (0.9, 0.5, 0.5 - gap), strict=True)]
    limited = SETTINGS._replace(max_detections=2)
    assert outcome_by_score(level(*rows), settings=limited) == expected
    unlimited = SETTINGS._replace(max_detections=-1)
    assert outcome_by_score(level(*rows), settings=unlimited) == ["yes"] * 3


def test_a_tie_before_the_limit_moves_it():
    """If the second box is suppressed, the third is among the best two."""
    rows = (A, 0.9, 0), ([0, 0, 100, 60], 0.5, 0), (FAR, 0.4, 0)
    limited = SETTINGS._replace(max_detections=2)
    assert outcome_by_score(level(*rows), settings=limited) == ["yes", "tie", "tie"]


@pytest.mark.parametrize(
    ("x", "expected"), [(199.9, "yes"), (199.99995, "tie"), (200.00005, "tie"), (200.1, "no")]
)
def test_a_box_at_the_border_of_the_image(x, expected):
    assert outcome_by_score(level(([x, 0, 250, 100], 0.9, 0))) == [expected]


def test_boxes_are_clipped_before_nms():
    # Unclipped the IoU is 100 * 100 / (300 * 100); clipped both are the same.
    rows = ([100, 0, 200, 100], 0.9, 0), ([100, 0, 400, 100], 0.5, 0)
    assert outcome_by_score(level(*rows)) == ["yes", "no"]


def test_no_candidates():
    assert outcome_by_score(level((A, 0.01, 0))) == []
    outcome = possible_outcomes([level((A, 0.01, 0))], SIZE, SETTINGS, TIE)
    assert explain(detected(), detected((A, 0.9, 0)), [], outcome, Limits()) == ([], [])


def explained(expected, found, *levels):
    outcome = possible_outcomes(list(levels), SIZE, SETTINGS, TIE)
    return explain(expected, found, match_within(expected, found, Limits()), outcome, Limits())


B = [0, 0, 100, 60]


def test_a_near_tie_explains_a_lost_and_an_extra_detection_and_a_real_difference_does_not():
    both, one = detected((A, 0.9, 0), (B, 0.5, 0)), detected((A, 0.9, 0))
    tied = level((A, 0.9, 0), (B, 0.5, 0))
    assert explained(both, one, tied) == ([1], [])
    assert explained(one, both, tied) == ([], [1])
    # The same loss, but the boxes overlap by 0.59.
    lower = [0, 0, 100, 59]
    both = detected((A, 0.9, 0), (lower, 0.5, 0))
    assert explained(both, one, level((A, 0.9, 0), (lower, 0.5, 0))) == ([], [])


def test_an_extra_detection_has_to_be_a_candidate_within_the_limits():
    one, tied = detected((A, 0.9, 0)), level((A, 0.9, 0), (B, 0.5, 0), classes=2)
    for other in (([0, 0, 100, 60.02], 0.5, 0), (B, 0.5002, 0), (B, 0.5, 1)):
        assert explained(one, detected((A, 0.9, 0), other), tied) == ([], [])


def test_a_near_tie_explains_one_detection_only():
    one, tied = detected((A, 0.9, 0)), level((A, 0.9, 0), (B, 0.5, 0))
    twice = detected((A, 0.9, 0), (B, 0.5, 0), (B, 0.5, 0))
    assert explained(one, twice, tied) == ([], [1])
    # It is taken if the model has it, and the file has it once.
    both = detected((A, 0.9, 0), (B, 0.5, 0))
    assert explained(both, twice, tied) == ([], [])


def test_two_boxes_that_change_places_are_one_tie_on_each_side():
    other = [0, 0, 100, 90]
    tied = level((A, 0.9, 0), (other, 0.9 - 5e-7, 0))
    assert explained(detected((A, 0.9, 0)), detected((other, 0.9 - 5e-7, 0)), tied) == ([0], [0])


@pytest.mark.parametrize("seed", range(12))
def test_whatever_rounding_does_lies_between_certain_and_possible(seed):
    """Post-processing of predictions that are changed by half of what counts as a tie."""
    rng = np.random.default_rng(seed)
    tie = TieRange(score=0.01, box=0.4)
    settings = PostprocessingSettings(0.2, topk=25, nms_threshold=0.5, max_detections=12)
    levels = []
    for _ in range(2):
        centers = rng.uniform(-5, 105, (4, 2)).repeat(10, axis=0) + rng.normal(0, 4, (40, 2))
        half = rng.uniform(8, 20, (40, 2))
        boxes = np.concatenate([centers - half, centers + half], 1)
        levels.append(LevelPredictions(rng.uniform(0, 1, (40, 2)), boxes))
    outcome = possible_outcomes(levels, (100, 100), settings, tie)
    assert outcome.certain.any()
    for _ in range(20):
        scores = [item.scores + rng.uniform(-0.005, 0.005, (40, 2)) for item in levels]
        boxes = [item.boxes + rng.uniform(-0.2, 0.2, (40, 4)) for item in levels]
        found = postprocess_single_image(
            [torch.from_numpy(level).float() for level in scores],
            [torch.from_numpy(level).float() for level in boxes],
            score_thresh=settings.score_threshold,
            topk_candidates=settings.topk,
            nms_thresh=settings.nms_threshold,
            max_detections=settings.max_detections,
            image_size=(100, 100),
        )
        found = Detected(*(values.numpy() for values in found))
        near = Limits(box=0.21, score=0.0051)
        certain = outcome.candidates.take(outcome.certain)
        assert len(match_within(certain, found, near)) == outcome.certain.sum()
        possible = outcome.candidates.take(outcome.possible)
        assert len(match_within(found, possible, near)) == len(found.scores)
