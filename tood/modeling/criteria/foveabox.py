"""FoveaBox's losses."""

import torch

from ..losses import foveabox_box_loss
from ..structures import DenseTargets, FlatPredictions, LossSum
from .base import CRITERION_REGISTRY, reject_centerness
from .focal import _focal_sum


@CRITERION_REGISTRY.register()
class FoveaBoxCriterion:
    """FoveaBox's losses (Kong et al., TIP 2020).

    Focal loss with hard labels, divided by the number of positives and images, and smooth L1 of the
    logarithms of the four distances, divided by the number of positives.

    Args:
        alpha: weight of the positives in the focal loss.
        gamma: its focusing exponent.
        beta: where smooth L1 turns from square to linear.
    """

    config_node = "CRITERIA.FOVEABOX_LOSS"

    def __init__(self, alpha: float = 0.4, gamma: float = 1.5, beta: float = 0.11) -> None:
        self.alpha, self.gamma, self.beta = alpha, gamma, beta

    def __call__(self, predictions: FlatPredictions, labels: DenseTargets) -> dict[str, LossSum]:
        """Sum the losses of a batch; see :data:`CRITERION_REGISTRY`.

        Raises:
            ConfigError: the head predicts centerness.
        """
        reject_centerness(predictions, self)
        focal, positive = _focal_sum(predictions, labels, self.alpha, self.gamma)
        # As in weighted_giou_sum, an infinite box without a label stays out.
        boxes = torch.where(positive[..., None] > 0, predictions.boxes, labels.gt_boxes)
        losses = foveabox_box_loss(labels.points, boxes, labels.gt_boxes, self.beta)
        count = positive.sum()
        return {
            "loss_cls": LossSum(focal, count + len(positive)),
            "loss_box_reg": LossSum((losses * positive).sum(), count),
        }
