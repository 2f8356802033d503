"""Losses: pure functions of tensors.

Scores are probabilities. Everything is float32.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .box_ops import box_area, boxes_to_distances


def nan_safe_binary_cross_entropy(pred_scores: Tensor, targets: Tensor) -> Tensor:
    """Binary cross entropy that takes scores and labels that are no numbers.

    PyTorch's stops the program there, on a GPU for good. The focusing factors of the losses below
    keep the NaN in their sums, where training notices it.

    Args:
        pred_scores: (...) probabilities.
        targets: (...) in [0, 1].

    Returns:
        (...) losses.
    """
    return F.binary_cross_entropy(
        pred_scores.nan_to_num(nan=0.5), targets.nan_to_num(nan=0.5), reduction="none"
    )


def focal_loss(pred_scores: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
    """Focal loss on probabilities (Lin et al., ICCV 2017).

    Args:
        pred_scores: (...) probabilities.
        targets: (...) 0 or 1.
        alpha: weight of the positives; negatives have 1 - alpha.
        gamma: focusing exponent.

    Returns:
        (...) losses.
    """
    miss = pred_scores * (1 - targets) + (1 - pred_scores) * targets
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return nan_safe_binary_cross_entropy(pred_scores, targets) * weight * miss.pow(gamma)


def task_aligned_focal_loss(pred_scores: Tensor, targets: Tensor, gamma: float) -> Tensor:
    """|t-hat - s|^gamma * BCE(s, t-hat), the classification loss of TAL (paper: eq. 11).

    The gradient also flows through the modulating factor, as in the reference.

    Args:
        pred_scores: (...) probabilities s.
        targets: (...) t-hat in [0, 1]; 0 for negatives.
        gamma: focusing exponent.

    Returns:
        (...) losses.
    """
    return nan_safe_binary_cross_entropy(pred_scores, targets) * (targets - pred_scores).abs().pow(
        gamma
    )


def giou_loss(pred_boxes: Tensor, gt_boxes: Tensor, eps: float = 1e-6) -> Tensor:
    """1 - GIoU (Rezatofighi et al., CVPR 2019), defined for every box.

    fvcore's stops at an inverted box, and the bare formula leaves [0, 2] there: here an inverted
    box has area 0, and the enclosing box is that of all four corners.

    Args:
        pred_boxes: (..., 4) in any unit, also inverted or without area.
        gt_boxes: (..., 4) in the same unit.
        eps: lower bound of the union and of the enclosing area.

    Returns:
        (...) losses in [0, 2].
    """
    low = torch.minimum(pred_boxes[..., :2], pred_boxes[..., 2:])
    high = torch.maximum(pred_boxes[..., :2], pred_boxes[..., 2:])
    overlap = torch.minimum(pred_boxes[..., 2:], gt_boxes[..., 2:]) - torch.maximum(
        pred_boxes[..., :2], gt_boxes[..., :2]
    )
    inter = overlap.clamp(min=0).prod(-1)
    union = (box_area(pred_boxes) + box_area(gt_boxes) - inter).clamp(min=eps)
    around = torch.maximum(high, gt_boxes[..., 2:]) - torch.minimum(low, gt_boxes[..., :2])
    enclosing = around.clamp(min=0).prod(-1).clamp(min=eps)
    # Within [0, 2] but for rounding.
    return (1 - inter / union + (enclosing - union) / enclosing).clamp(0, 2)


def foveabox_box_loss(points: Tensor, pred_boxes: Tensor, gt_boxes: Tensor, beta: float) -> Tensor:
    """Smooth L1 of the logarithms of the distances to the four sides (FoveaBox).

    In units of two strides; those of the ground truth are cut to [1/16, 16]. Below 1/64 the
    logarithm of a prediction goes on along its tangent: a head that aligns its boxes can move a
    side across the point, and has to find the way back.

    Args:
        points: (..., 2) in strides.
        pred_boxes: (..., 4) in strides.
        gt_boxes: (..., 4) in strides.
        beta: where the loss turns from square to linear.

    Returns:
        (...) losses.
    """
    label = boxes_to_distances(points, gt_boxes).div(2).clamp(1 / 16, 16).log()
    distance, least = boxes_to_distances(points, pred_boxes).div(2), 1 / 64
    tangent = math.log(least) + distance / least - 1
    pred = torch.where(distance < least, tangent, distance.clamp(min=least).log())
    return F.smooth_l1_loss(pred, label, reduction="none", beta=beta).sum(-1)
