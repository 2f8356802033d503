"""The losses of FoveaBox."""

import torch

from ..losses import foveabox_box_loss
from ..structures import DenseTargets, FlatPredictions, LossSum
from .base import CRITERION_REGISTRY, focal_sum, reject_centerness


@CRITERION_REGISTRY.register()
class FoveaBoxCriterion:
    """FoveaBox's losses (Kong et al., TIP 2020).

    Focal loss with hard labels, divided by the number of positives plus images, and smooth L1 of
    the logarithms of the four distances, divided by the number of positives.

    Args:
        alpha: weight of the positives in the focal loss.
        gamma: its focusing exponent.
        beta: where smooth L1 turns from quadratic to linear.
    """

    config_node = "CRITERIA.FOVEABOX_LOSS"
    supports_centerness = False

    def __init__(self, alpha: float = 0.4, gamma: float = 1.5, beta: float = 0.11) -> None:
        self.alpha, self.gamma, self.beta = alpha, gamma, beta

    def __call__(self, predictions: FlatPredictions, targets: DenseTargets) -> dict[str, LossSum]:
        """Sum the losses of a batch; see :data:`CRITERION_REGISTRY`.

        Raises:
            ValueError: the head predicts centerness.
        """
        reject_centerness(predictions, self)
        focal, positive = focal_sum(predictions.scores, targets, self.alpha, self.gamma)
        # As in weighted_giou_sum, keep infinite boxes without a target out of the gradient.
        boxes = torch.where(positive[..., None] > 0, predictions.boxes, targets.gt_boxes)
        losses = foveabox_box_loss(
            targets.centers, targets.strides, boxes, targets.gt_boxes, self.beta
        )
        count = positive.sum()
        num_images = len(positive)
        return {
            "loss_cls": LossSum(focal, count + num_images),
            "loss_box_reg": LossSum((losses * positive).sum(), count),
        }
