"""Focal loss with hard labels."""

import torch
from torch import Tensor

from ..box_ops import centerness
from ..losses import focal_loss, nan_safe_binary_cross_entropy
from ..structures import DenseTargets, FlatPredictions, LossSum
from .base import (
    CRITERION_REGISTRY,
    is_positive,
    reject_centerness,
    soft_class_targets,
    sum_valid,
    weighted_giou_sum,
)


def _focal_sum(
    predictions: FlatPredictions, labels: DenseTargets, alpha: float, gamma: float
) -> tuple[Tensor, Tensor]:
    """Sum of the focal losses with hard labels, and (N, R) 1 for positives, else 0."""
    scores = predictions.scores
    positive = is_positive(scores, labels).to(scores.dtype)
    targets = soft_class_targets(scores, labels, positive)
    losses = focal_loss(scores, targets, alpha, gamma)
    return sum_valid(losses, labels.gt_classes), positive


@CRITERION_REGISTRY.register()
class FocalCriterion:
    """Focal loss with hard labels, GIoU with the same weight for every positive.

    What is left of the others without weights; both are divided by the number of positives.

    Args:
        alpha: weight of the positives in the focal loss.
        gamma: its focusing exponent.
    """

    config_node = "CRITERIA.FOCAL_LOSS"

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0) -> None:
        self.alpha, self.gamma = alpha, gamma

    def __call__(self, predictions: FlatPredictions, labels: DenseTargets) -> dict[str, LossSum]:
        """Sum the losses of a batch; see :data:`CRITERION_REGISTRY`.

        Raises:
            ConfigError: the head predicts centerness.
        """
        reject_centerness(predictions, self)
        focal, positive = _focal_sum(predictions, labels, self.alpha, self.gamma)
        count = positive.sum()
        return {
            "loss_cls": LossSum(focal, count),
            "loss_box_reg": LossSum(weighted_giou_sum(predictions.boxes, labels, positive), count),
        }


@CRITERION_REGISTRY.register()
class CenternessFocalCriterion(FocalCriterion):
    """The warm-up's losses: focal loss with hard labels, GIoU weighted by centerness.

    The classification loss is divided by the number of positives, the box loss by the sum of the
    weights, each the centerness of a point in its ground truth. A head with a centerness branch
    (ATSS, FCOS) learns it by binary cross entropy, divided by the number of positives.

    Args:
        alpha: weight of the positives in the focal loss.
        gamma: its focusing exponent.
    """

    def __call__(self, predictions: FlatPredictions, labels: DenseTargets) -> dict[str, LossSum]:
        """Sum the losses of a batch; see :data:`CRITERION_REGISTRY`."""
        focal, positive = _focal_sum(predictions, labels, self.alpha, self.gamma)
        weights = centerness(labels.points, labels.gt_boxes) * positive
        sums = {
            "loss_cls": LossSum(focal, positive.sum()),
            "loss_box_reg": LossSum(
                weighted_giou_sum(predictions.boxes, labels, weights), weights.sum()
            ),
        }
        if predictions.centerness is not None:
            branch = predictions.centerness[..., 0]
            # Without the focusing factors of the others, training would not notice a NaN.
            losses = torch.where(
                branch.isnan(), torch.nan, nan_safe_binary_cross_entropy(branch, weights)
            )
            losses = torch.where(positive > 0, losses, 0.0)
            sums["loss_centerness"] = LossSum(losses.sum(), positive.sum())
        return sums
