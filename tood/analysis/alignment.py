"""How well the two tasks of a detector agree."""

import logging

import torch
from torch import Tensor

from ..modeling.box_ops import box_iou

logger = logging.getLogger(__name__)

# A box that overlaps an instance by more than this is about it, well or badly.
MIN_IOU = 0.1
# From this overlap on a box is right.
CORRECT_IOU = 0.5
# Confident predictions that are looked at for the correlation, and for the mean overlap.
TOP_CORRELATION, TOP_OVERLAP = 50, 10


def average_ranks(values: Tensor) -> Tensor:
    """(n,) rank of each of the values (n,), from 0; equal ones share the mean of their ranks."""
    below = (values[None] < values[:, None]).sum(1)
    equal = (values[None] == values[:, None]).sum(1)
    return below + (equal - 1) / 2


def spearman_correlation(first: Tensor, second: Tensor) -> float | None:
    """Pearson correlation of two average_ranks.

    Args:
        first: (n,) values.
        second: (n,) values.

    Returns:
        In [-1, 1]; None where a ranking has no two different places.
    """
    pair = torch.stack([average_ranks(first), average_ranks(second)]).double()
    pair = pair - pair.mean(1, keepdim=True)
    spread = pair.square().sum(1).prod().sqrt()
    return (pair[0] * pair[1]).sum().div(spread).item() if spread > 0 else None


def alignment_per_instance(
    pred_scores: Tensor, pred_boxes: Tensor, gt_boxes: Tensor, gt_classes: Tensor
) -> list[tuple[float | None, float]]:
    """Correlation and overlap of the confident predictions for each instance, before suppression.

    The predictions for an instance are those whose box overlaps it by an IoU above 0.1, and no
    other instance of its class by more. They are ordered by their score for its class.

    Args:
        pred_scores: (R, K).
        pred_boxes: (R, 4).
        gt_boxes: (M, 4).
        gt_classes: (M,) int64.

    Returns:
        For each instance the Pearson correlation between the average_ranks of score and IoU among the 50
        most confident predictions, None where it is not defined (fewer than two, or all alike), and
        the mean IoU of the 10 most confident ones, 0 where there is none.
    """
    results: list[tuple[float | None, float]] = [(None, 0.0)] * len(gt_boxes)
    for category in gt_classes.unique().tolist():
        instances = (gt_classes == category).nonzero().squeeze(1)
        ious = box_iou(gt_boxes[instances][:, None], pred_boxes)
        most, owner = ious.max(0)
        for row, instance in enumerate(instances.tolist()):
            own = ((owner == row) & (most > MIN_IOU)).nonzero().squeeze(1)
            scores = pred_scores[own, category]
            scores, order = scores.topk(min(TOP_CORRELATION, len(own)))
            overlaps = most[own[order]]
            if len(own):
                correlation = spearman_correlation(scores, overlaps)
                results[instance] = correlation, overlaps[:TOP_OVERLAP].mean().item()
    return results


def classify_detections(
    boxes: Tensor, classes: Tensor, gt_boxes: Tensor, gt_classes: Tensor
) -> dict[str, int]:
    """Count the detections that are left after the suppression, by what they are worth.

    A detection is about the instance of its class that it overlaps most.

    Args:
        boxes: (D, 4).
        classes: (D,) int64.
        gt_boxes: (M, 4).
        gt_classes: (M,) int64.

    Returns:
        "correct": the best detection of each instance, if its IoU is 0.5 or more; "redundant": the
        others of 0.5 or more; "error": those above 0.1 and below 0.5.
    """
    same = classes[:, None] == gt_classes
    ious = torch.where(same, box_iou(boxes[:, None], gt_boxes), 0.0)
    if ious.numel() == 0:
        return {"correct": 0, "redundant": 0, "error": 0}
    most, instance = ious.max(1)
    right = most >= CORRECT_IOU
    correct = len(instance[right].unique())
    return {
        "correct": correct,
        "redundant": int(right.sum()) - correct,
        "error": int(((most > MIN_IOU) & ~right).sum()),
    }
