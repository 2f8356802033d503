"""How well classification and localization agree in one image: the numbers of the paper's Table 6.

Shapes: **n** values, **R** points, **M** instances (GT boxes), **K** classes, **D** detections.
Boxes are (x1, y1, x2, y2), all in one unit.
"""

import torch
from torch import Tensor

from ..modeling.box_ops import box_iou

# Minimum IoU for a box to count as belonging to an instance.
MIN_IOU = 0.1
# Minimum IoU for a correct box.
CORRECT_IOU = 0.5
# How many of an instance's most confident predictions enter the rank correlation and the mean IoU.
TOP_CORRELATION, TOP_IOU = 50, 10


def average_ranks(values: Tensor) -> Tensor:
    """Rank the values (n,) from 0; ties share the average of their ranks."""
    below = (values[None] < values[:, None]).sum(1)
    equal = (values[None] == values[:, None]).sum(1)
    return below + (equal - 1) / 2


def spearman_correlation(first: Tensor, second: Tensor) -> float | None:
    """Spearman's rank correlation: the Pearson correlation of the average ranks.

    Args:
        first: (n,) values.
        second: (n,) values.

    Returns:
        A value in [-1, 1]; None if either side has fewer than two distinct values.
    """
    ranks = torch.stack([average_ranks(first), average_ranks(second)]).double()
    ranks = ranks - ranks.mean(1, keepdim=True)
    norm = ranks.square().sum(1).prod().sqrt()
    return (ranks[0] * ranks[1]).sum().div(norm).item() if norm > 0 else None


def alignment_per_instance(
    pred_scores: Tensor, pred_boxes: Tensor, gt_boxes: Tensor, gt_classes: Tensor
) -> list[tuple[float | None, float]]:
    """Rank correlation and mean IoU of each instance's most confident predictions, before NMS.

    A prediction belongs to the instance of a class that its box overlaps most, if their IoU is
    above 0.1. An instance's predictions are ordered by their score for its class.

    Args:
        pred_scores: (R, K).
        pred_boxes: (R, 4).
        gt_boxes: (M, 4).
        gt_classes: (M,) int64.

    Returns:
        For each instance

        * the Spearman correlation between score and IoU of its 50 most confident predictions;
          None if there are fewer than two, or all scores or all IoUs are equal;
        * the mean IoU of its 10 most confident predictions; 0 if there are none.
    """
    results: list[tuple[float | None, float]] = [(None, 0.0)] * len(gt_boxes)
    for category in gt_classes.unique().tolist():
        instances = (gt_classes == category).nonzero().squeeze(1)
        max_ious, owners = box_iou(gt_boxes[instances][:, None], pred_boxes).max(0)  # (R,)
        for row, instance in enumerate(instances.tolist()):
            idxs = ((owners == row) & (max_ious > MIN_IOU)).nonzero().squeeze(1)
            if len(idxs) == 0:
                continue
            scores, order = pred_scores[idxs, category].topk(min(TOP_CORRELATION, len(idxs)))
            ious = max_ious[idxs[order]]
            results[instance] = spearman_correlation(scores, ious), ious[:TOP_IOU].mean().item()
    return results


def classify_detections(
    boxes: Tensor, classes: Tensor, gt_boxes: Tensor, gt_classes: Tensor
) -> dict[str, int]:
    """Count the final detections of an image, those after NMS, by quality.

    Each detection is compared with the instance of its class that it overlaps most.

    Args:
        boxes: (D, 4).
        classes: (D,) int64.
        gt_boxes: (M, 4).
        gt_classes: (M,) int64.

    Returns:
        "correct": instances that a detection overlaps with an IoU of at least 0.5; "redundant":
        further detections of these instances with such an IoU; "error": detections with an IoU
        above 0.1 and below 0.5.
    """
    same_class = classes[:, None] == gt_classes  # (D, M)
    ious = torch.where(same_class, box_iou(boxes[:, None], gt_boxes), 0.0)
    if ious.numel() == 0:
        return {"correct": 0, "redundant": 0, "error": 0}
    max_ious, instances = ious.max(1)
    is_correct = max_ious >= CORRECT_IOU
    num_correct = len(instances[is_correct].unique())
    return {
        "correct": num_correct,
        "redundant": int(is_correct.sum()) - num_correct,
        "error": int(((max_ious > MIN_IOU) & ~is_correct).sum()),
    }
