"""The alignment metric t of scores and IoUs (paper: eq. 9).

Shapes: **m** ground truths, **R** predictions.
"""

from collections.abc import Callable

import torch
import torchvision
from torch import Tensor

from ..box_ops import box_iou


def _clamped(iou: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Wrap torchvision's pairwise IoU variant; negative and NaN values become 0."""

    def clamped(gt_boxes: Tensor, boxes: Tensor) -> Tensor:
        # The area of a box with two negative sides would be positive, and its GIoU up to 1.
        corner = boxes[:, :2]
        boxes = torch.cat([corner, torch.maximum(corner, boxes[:, 2:])], dim=1)
        return iou(gt_boxes, boxes).nan_to_num_(nan=0.0).clamp_(0, 1)

    return clamped


# Choices for u: functions of ground truths (m, 4) and predictions (R, 4).
IOU_FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "iou": lambda gt_boxes, boxes: box_iou(gt_boxes[:, None], boxes),
    "giou": _clamped(torchvision.ops.generalized_box_iou),
    "diou": _clamped(torchvision.ops.distance_box_iou),
    "ciou": _clamped(torchvision.ops.complete_box_iou),
}


def alignment_metric(scores: Tensor, ious: Tensor, alpha: float, beta: float) -> Tensor:
    """Compute t = s^alpha * u^beta (paper: eq. 9).

    Args:
        scores: (...) s; may be overwritten, to avoid an (m, R) temporary.
        ious: (...) u.
        alpha: exponent of the score.
        beta: exponent of the IoU.

    Returns:
        (...) t.
    """
    return _integer_power(scores, alpha).mul_(_integer_power(ious, beta))


def _integer_power(x: Tensor, exponent: float) -> Tensor:
    """``x ** exponent``; integers up to 8 by multiplication, many times faster on a CPU."""
    if exponent not in range(1, 9):
        return x.pow(exponent)
    remaining = int(exponent)
    result = None
    while True:
        if remaining & 1:
            result = x if result is None else result * x
        remaining >>= 1
        if not remaining:
            return result
        x = x * x
