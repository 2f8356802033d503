"""Losses as pure functions of float32 tensors; scores are probabilities."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .box_ops import box_area, boxes_to_distances


def nan_safe_binary_cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """Binary cross entropy that accepts NaN.

    PyTorch's raises on NaN; on a GPU the device-side assert is unrecoverable. The modulating
    factors of the losses below carry the NaN into their sums, where training detects it.

    Args:
        scores: (...) probabilities.
        targets: (...) in [0, 1].

    Returns:
        (...) losses; NaN counts as 0.5.
    """
    return F.binary_cross_entropy(
        scores.nan_to_num(nan=0.5), targets.nan_to_num(nan=0.5), reduction="none"
    )


def _modulation(error: Tensor, gamma: float) -> Tensor:
    """``error ** gamma``, the modulating factor of errors (...) in [0, 1].

    Between 0 and 1, the derivative of the power is infinite at 0, where a prediction is perfect:
    its gradient would be NaN. There, errors within float32's rounding of a score count as 0.
    """
    if gamma == 0 or gamma >= 1:
        return error.pow(gamma)
    least = torch.finfo(torch.float32).eps
    return torch.where(error <= least, 0.0, error.clamp(min=least).pow(gamma))


def focal_loss(scores: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
    """Focal loss on probabilities (Lin et al., ICCV 2017).

    Args:
        scores: (...) probabilities.
        targets: (...) 0 or 1.
        alpha: weight of the positives; negatives have 1 - alpha.
        gamma: focusing exponent.

    Returns:
        (...) losses.
    """
    miss = scores * (1 - targets) + (1 - scores) * targets
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return nan_safe_binary_cross_entropy(scores, targets) * weight * _modulation(miss, gamma)


def task_aligned_focal_loss(scores: Tensor, targets: Tensor, gamma: float) -> Tensor:
    """|t-hat - s|^gamma * BCE(s, t-hat), the classification loss of TAL (paper: eq. 11).

    As in the reference, the gradient also flows through the modulating factor.

    Args:
        scores: (...) probabilities s.
        targets: (...) t-hat in [0, 1]; 0 for negatives.
        gamma: focusing exponent.

    Returns:
        (...) losses.
    """
    modulation = _modulation((targets - scores).abs(), gamma)
    return nan_safe_binary_cross_entropy(scores, targets) * modulation


def giou_loss(boxes: Tensor, gt_boxes: Tensor, eps: float = 1e-6) -> Tensor:
    """1 - GIoU (Rezatofighi et al., CVPR 2019), defined for every box.

    fvcore's asserts that boxes are not inverted, and the plain formula leaves [0, 2] there. Here an
    inverted box has area 0, and the enclosing box contains all four corners.

    Args:
        boxes: (..., 4) predictions in any unit, also inverted or empty.
        gt_boxes: (..., 4) in the same unit.
        eps: lower bound of the union and of the enclosing area.

    Returns:
        (...) losses in [0, 2].
    """
    low = torch.minimum(boxes[..., :2], boxes[..., 2:])
    high = torch.maximum(boxes[..., :2], boxes[..., 2:])
    overlap = torch.minimum(boxes[..., 2:], gt_boxes[..., 2:]) - torch.maximum(
        boxes[..., :2], gt_boxes[..., :2]
    )
    inter = overlap.clamp(min=0).prod(-1)
    union = (box_area(boxes) + box_area(gt_boxes) - inter).clamp(min=eps)
    span = torch.maximum(high, gt_boxes[..., 2:]) - torch.minimum(low, gt_boxes[..., :2])
    enclosing = span.clamp(min=0).prod(-1).clamp(min=eps)
    # In [0, 2] up to rounding.
    return (1 - inter / union + (enclosing - union) / enclosing).clamp(0, 2)


def foveabox_box_loss(
    centers: Tensor, strides: Tensor, boxes: Tensor, gt_boxes: Tensor, beta: float
) -> Tensor:
    """Smooth L1 of the logarithms of the distances to the four sides (FoveaBox).

    Distances are in units of two strides; targets are clamped to [1/16, 16]. Below 1/64 the
    logarithm is extended linearly, so a side that crossed its point still gets a gradient.

    Args:
        centers: (..., 2) points in pixels.
        strides: (..., 1) of each point's level, in pixels.
        boxes: (..., 4) predictions in pixels.
        gt_boxes: (..., 4) in pixels.
        beta: where the loss turns from quadratic to linear.

    Returns:
        (...) losses.
    """
    unit = 2 * strides
    target = boxes_to_distances(centers, gt_boxes).div(unit).clamp(1 / 16, 16).log()
    distance, least = boxes_to_distances(centers, boxes).div(unit), 1 / 64
    tangent = math.log(least) + distance / least - 1
    pred = torch.where(distance < least, tangent, distance.clamp(min=least).log())
    return F.smooth_l1_loss(pred, target, reduction="none", beta=beta).sum(-1)
