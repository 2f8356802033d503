"""Focal loss with hard labels: the losses of the ATSS warm-up phase, and of ATSS and FCOS."""

import torch

from ..box_ops import centerness
from ..losses import nan_safe_binary_cross_entropy
from ..structures import DenseTargets, FlatPredictions, LossSum
from .base import CRITERION_REGISTRY, focal_sum, reject_centerness, weighted_giou_sum


@CRITERION_REGISTRY.register()
class FocalCriterion:
    """Focal loss with hard labels, and GIoU loss with equal weights.

    Both are divided by the number of positives.

    Args:
        alpha: weight of the positives in the focal loss.
        gamma: its focusing exponent.
    """

    config_node = "CRITERIA.FOCAL_LOSS"
    supports_centerness = False

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0) -> None:
        self.alpha, self.gamma = alpha, gamma

    def __call__(self, predictions: FlatPredictions, targets: DenseTargets) -> dict[str, LossSum]:
        """Sum the losses of a batch; see :data:`CRITERION_REGISTRY`.

        Raises:
            ValueError: the head predicts centerness.
        """
        reject_centerness(predictions, self)
        focal, positive = focal_sum(predictions.scores, targets, self.alpha, self.gamma)
        count = positive.sum()
        giou = weighted_giou_sum(predictions.boxes, targets, positive)
        return {"loss_cls": LossSum(focal, count), "loss_box_reg": LossSum(giou, count)}


@CRITERION_REGISTRY.register()
class CenternessFocalCriterion(FocalCriterion):
    """Focal loss with hard labels, and GIoU loss weighted by centerness: the warm-up phase.

    The classification loss is divided by the number of positives, the box loss by the sum of its
    weights, the centerness of each point in its ground truth. A head with a centerness branch
    (ATSS, FCOS) learns it by binary cross entropy, divided by the number of positives.

    Args:
        alpha: weight of the positives in the focal loss.
        gamma: its focusing exponent.
    """

    supports_centerness = True

    def __call__(self, predictions: FlatPredictions, targets: DenseTargets) -> dict[str, LossSum]:
        """Sum the losses of a batch; see :data:`CRITERION_REGISTRY`."""
        focal, positive = focal_sum(predictions.scores, targets, self.alpha, self.gamma)
        count = positive.sum()
        weights = centerness(targets.centers, targets.gt_boxes) * positive
        giou = weighted_giou_sum(predictions.boxes, targets, weights)
        sums = {"loss_cls": LossSum(focal, count), "loss_box_reg": LossSum(giou, weights.sum())}
        if predictions.centerness is not None:
            branch = predictions.centerness[..., 0]
            losses = nan_safe_binary_cross_entropy(branch, weights)
            # No modulating factor here: keep the NaN, or training would not notice it.
            losses = torch.where(branch.isnan(), torch.nan, losses)
            losses = torch.where(positive > 0, losses, 0.0)
            sums["loss_centerness"] = LossSum(losses.sum(), count)
        return sums
