"""Comparison of one batch, with predictions made by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.export.verify.helpers import detected
from tood.export.verify.comparing import (
    BatchComparison,
    compare_detections,
    compare_raw,
    count_confident,
)
from tood.export.verify.images import VerificationBatch, VerificationImage
from tood.export.verify.matching import Limits
from tood.export.verify.reference import Reference
from tood.modeling.structures import DensePredictions

MODEL = SimpleNamespace(
    test_score_thresh=0.05,
    test_topk_candidates=1000,
    test_nms_thresh=0.6,
    max_detections_per_image=100,
)
# Half as high and a quarter as wide as the original image.
BATCH = VerificationBatch(
    [VerificationImage(str(i), torch.zeros(3, 200, 200), (400, 800)) for i in range(2)], (200, 200)
)
A, B = [0.0, 0, 100, 100], [0.0, 0, 100, 60]  # their IoU is 0.6


def reference(*images):
    """What the model predicts and detects: per image (all rows, rows that are detected)."""
    count = max(len(rows) for rows, _ in images)
    scores, boxes = np.zeros((len(images), 1, 1, count)), np.zeros((len(images), 4, 1, count))
    for index, (rows, _) in enumerate(images):
        for point, (box, score, _) in enumerate(rows):
            scores[index, 0, 0, point], boxes[index, :, 0, point] = score, box
    dense = DensePredictions([torch.from_numpy(scores)], [torch.from_numpy(boxes)])
    return Reference([detected(*found) for _, found in images], dense)


def outputs(*images, rows=5):
    """What a file returns, in pixels of the original image."""
    result = {
        "boxes": np.zeros((len(images), rows, 4), np.float32),
        "scores": np.zeros((len(images), rows), np.float32),
        "labels": np.full((len(images), rows), -1),
        "num_dets": np.array([len(found) for found in images]),
    }
    for index, found in enumerate(images):
        for row, (box, score, label) in enumerate(found):
            result["boxes"][index, row] = np.multiply(box, [4, 2, 4, 2])
            result["scores"][index, row], result["labels"][index, row] = score, label
    return result


def compare(expected, found):
    return compare_detections(found, expected, BATCH, MODEL, Limits())


FIRST, SECOND = (A, 0.9, 0), (B, 0.5, 0)


def test_an_image_without_detections_among_others():
    expected = reference(([FIRST], [FIRST]), ([], []))
    result = compare(expected, outputs([FIRST], []))
    assert (result.detections, result.unmatched, result.near_ties) == (1, 0, 0)
    # It must not have any.
    result = compare(expected, outputs([FIRST], [FIRST]))
    assert (result.detections, result.unmatched, result.near_ties) == (1, 1, 0)
    result = compare(expected, outputs([], []))
    assert (result.detections, result.unmatched, result.near_ties) == (1, 1, 0)


def test_no_detections_at_all():
    result = compare(reference(([], []), ([], [])), outputs([], []))
    assert (result.detections, result.unmatched, result.near_ties) == (0, 0, 0)
    assert (result.max_box, result.max_score) == (0, 0)


def test_differences_are_in_pixels_of_the_networks_input():
    """0.008 px of the input are 0.032 in x and 0.016 in y of the original image."""
    for moved in ([0.008, 0, 100, 100], [0, 0.008, 100, 100]):
        result = compare(
            reference(([FIRST], [FIRST]), ([], [])), outputs([(moved, 0.90005, 0)], [])
        )
        assert result.unmatched == 0
        assert result.max_box == pytest.approx(0.008, rel=1e-3)
        assert result.max_score == pytest.approx(5e-5, rel=1e-2)


def test_detections_beyond_the_limits_are_unmatched_on_both_sides_and_their_difference_is_shown():
    result = compare(
        reference(([FIRST], [FIRST]), ([], [])), outputs([([0.5, 0, 100, 100], 0.9, 0)], [])
    )
    assert (result.unmatched, result.near_ties) == (2, 0)
    assert result.max_box == pytest.approx(0.5)


def test_a_near_tie_at_nms_is_no_failure_and_a_real_difference_of_the_same_size_is():
    tied = reference(([FIRST, SECOND], [FIRST]), ([], []))
    result = compare(tied, outputs([FIRST, SECOND], []))
    assert (result.unmatched, result.near_ties, result.tied_images) == (0, 1, 1)
    # The same extra detection, where the model's NMS is certain.
    lower = ([0.0, 0, 100, 62], 0.5, 0)
    certain = reference(([FIRST, lower], [FIRST]), ([], []))
    result = compare(certain, outputs([FIRST, lower], []))
    assert (result.unmatched, result.near_ties) == (1, 0)


def test_larger_differences_of_matches_widen_what_is_a_near_tie():
    """The box next to it differs by 0.009 px: then so may those that decide about this one."""
    near = ([0.0, 0, 100, 60.02], 0.5, 0)
    far = ([150.0, 150, 190, 190], 0.8, 0)
    model = reference(([FIRST, near, far], [FIRST, far]), ([], []))
    result = compare(model, outputs([FIRST, far, near], []))
    assert (result.unmatched, result.near_ties) == (1, 0)
    moved = ([150.009, 150, 190, 190], 0.8, 0)
    result = compare(model, outputs([FIRST, moved, near], []))
    assert (result.unmatched, result.near_ties) == (0, 1)


def test_two_boxes_that_change_places_are_one_near_tie():
    first, second = (A, 0.9, 0), ([0.0, 0, 100, 90], 0.9 - 5e-7, 0)
    model = reference(([first, second], [first]), ([], []))
    result = compare(model, outputs([second], []))
    assert (result.unmatched, result.near_ties) == (0, 1)


def raw_outputs(expected):
    boxes, scores = expected.raw()
    return {"boxes": boxes.copy(), "scores": scores.copy()}


def test_raw_boxes_that_are_almost_inverted_are_near_ties():
    """The T-head then keeps the box before its alignment."""
    sliver = ([50.0, 50, 50.004, 90], 0.9, 0)
    expected = reference(([FIRST, sliver], []), ([], []))
    found = raw_outputs(expected)
    found["boxes"][0, 1] = [30, 40, 80, 95]
    result = compare_raw(found, expected, BATCH, MODEL, Limits())
    assert (result.detections, result.unmatched, result.near_ties) == (2, 0, 1)
    assert result.max_box == 0
    found["scores"][0, 1] += 0.01
    result = compare_raw(found, expected, BATCH, MODEL, Limits())
    assert (result.unmatched, result.near_ties) == (1, 0)
    found = raw_outputs(expected)
    found["boxes"][0, 0] = [30, 40, 80, 95]
    result = compare_raw(found, expected, BATCH, MODEL, Limits())
    assert (result.unmatched, result.near_ties, result.max_box) == (1, 0, 40)


def test_confident_detections_may_match_less_confident_ones():
    expected = detected((A, 0.31, 0), ([150, 150, 190, 190], 0.5, 0), ([150, 0, 190, 40], 0.1, 0))
    found = detected((A, 0.29, 0), ([150, 150, 190, 190], 0.5, 1), ([150, 0, 190, 40], 0.9, 0))
    result = BatchComparison(BATCH)
    count_confident(result, [(expected, found)], 0.3)
    # Of the model's two the first matches; of the file's two the last.
    assert (result.confident, result.confident_matched) == (4, 2)
    assert result.max_score == pytest.approx(0.8)
