"""Rank correlation, IoU of the top predictions, and quality of detections, computed by hand."""

import pytest
import torch

from tests.analysis.cases import GT_BOX, box_with_iou, make_boxes
from tood.analysis.alignment import (
    alignment_per_instance,
    average_ranks,
    classify_detections,
    spearman_correlation,
)


def test_ties_share_their_average_rank():
    assert average_ranks(torch.tensor([0.3, 0.9, 0.3, 0.1])).tolist() == [1.5, 3.0, 1.5, 0.0]


def test_spearman_correlation():
    """Ranks (0, 1, 2) and (0, 2, 1): covariance 1, both variances 2."""
    first = torch.tensor([0.1, 0.2, 0.9])
    assert spearman_correlation(first, first**3) == pytest.approx(1.0)
    assert spearman_correlation(first, -first) == pytest.approx(-1.0)
    assert spearman_correlation(first, torch.tensor([5.0, 7.0, 6.0])) == pytest.approx(0.5)


def test_spearman_correlation_without_an_order_is_none():
    first = torch.tensor([0.1, 0.2, 0.9])
    assert spearman_correlation(first, torch.ones(3)) is None
    assert spearman_correlation(first[:1], first[:1]) is None


def test_alignment_of_one_instance():
    """Scores in the order 0.9, 0.8, 0.7, 0.6; IoUs 0.5, 0.9, 0.6, 0.2; two boxes are not its own.

    Ranks 3, 2, 1, 0 and 1, 3, 2, 0: covariance 1.5 * -0.5 + 0.5 * 1.5 + -0.5 * 0.5 + 1.5 * 1.5 = 2,
    both variances 5.
    """
    pred_boxes = make_boxes(*map(box_with_iou, (60, 50, 20, 90, 10)), [500, 0, 600, 10])
    scores = torch.tensor([0.7, 0.9, 0.6, 0.8, 0.95, 0.99])[:, None]
    ((correlation, iou),) = alignment_per_instance(scores, pred_boxes, GT_BOX, torch.tensor([0]))
    assert correlation == pytest.approx(2 / 5)
    assert iou == pytest.approx((0.5 + 0.9 + 0.6 + 0.2) / 4)


def test_only_the_most_confident_predictions_count():
    """Of 60, the 50 with the highest scores for the correlation, 10 for the IoU."""
    percents = torch.arange(60) + 31
    pred_boxes = make_boxes(*(box_with_iou(p.item()) for p in percents))
    scores = torch.arange(60).flip(0)[:, None] / 100.0
    scores[50:] = torch.arange(10)[:, None] / 1000.0  # the last ten would spoil the order
    ((correlation, iou),) = alignment_per_instance(scores, pred_boxes, GT_BOX, torch.tensor([0]))
    assert correlation == pytest.approx(-1.0)
    assert iou == pytest.approx(percents[:10].float().mean().item() / 100)


def test_predictions_belong_to_the_best_instance_of_the_class():
    gt_boxes = torch.cat([GT_BOX, make_boxes([0, 0, 50, 10]), GT_BOX])
    gt_classes = torch.tensor([0, 0, 1])
    # The second box has an IoU of 0.91 with the second instance.
    pred_boxes = make_boxes(box_with_iou(90), box_with_iou(55))
    scores = torch.tensor([[0.5, 0.2], [0.6, 0.1]])
    first, second, other = alignment_per_instance(scores, pred_boxes, gt_boxes, gt_classes)
    assert first == (None, pytest.approx(0.9))
    assert second == (None, pytest.approx(50 / 55))
    assert other == (pytest.approx(1.0), pytest.approx((0.9 + 0.55) / 2))


def test_nothing_to_align():
    far = make_boxes([500, 500, 510, 510])
    scores = torch.ones(1, 2)
    assert alignment_per_instance(scores, far, GT_BOX, torch.tensor([1])) == [(None, 0.0)]
    no_classes = torch.zeros(0, dtype=torch.int64)
    assert alignment_per_instance(scores, far, make_boxes(), no_classes) == []


def test_classify_detections():
    """0.9 correct; 0.5, 0.7 redundant; 0.49, 0.11 errors; 0.1 and another class are not counted."""
    percents = (70, 90, 50, 49, 11, 10)
    found = make_boxes(*map(box_with_iou, percents), box_with_iou(95), [500, 0, 600, 10])
    classes = torch.tensor([0, 0, 0, 0, 0, 0, 1, 0])
    counts = classify_detections(found, classes, GT_BOX, torch.tensor([0]))
    assert counts == {"correct": 1, "redundant": 2, "error": 2}
    two = torch.cat([GT_BOX, make_boxes([0, 0, 50, 10])])
    counts = classify_detections(found, classes, two, torch.tensor([0, 0]))
    assert counts == {"correct": 2, "redundant": 2, "error": 2}


def test_classify_nothing():
    box, no_classes = make_boxes([500, 500, 510, 510]), torch.zeros(0, dtype=torch.int64)
    none = {"correct": 0, "redundant": 0, "error": 0}
    assert classify_detections(box, torch.tensor([0]), make_boxes(), no_classes) == none
    assert classify_detections(make_boxes(), no_classes, GT_BOX, torch.tensor([0])) == none
