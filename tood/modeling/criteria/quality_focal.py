"""Quality focal loss: the IoU of a positive is its soft label."""

import torch

from ..box_ops import box_iou
from ..losses import task_aligned_focal_loss
from ..structures import DenseTargets, FlatPredictions, LossSum
from .base import (
    CRITERION_REGISTRY,
    is_positive,
    reject_centerness,
    soft_class_targets,
    sum_valid,
    weighted_giou_sum,
)


@CRITERION_REGISTRY.register()
class QualityFocalCriterion:
    """Quality focal loss (QFL; Li et al., NeurIPS 2020), whose soft label is the IoU.

    The box loss, GIoU, is weighted by the highest score of the positive and divided by the sum of
    these weights; the classification loss is divided by the number of positives.

    Args:
        beta: focusing exponent.
    """

    config_node = "CRITERIA.QUALITY_FOCAL_LOSS"
    supports_centerness = False

    def __init__(self, beta: float = 2.0) -> None:
        self.beta = beta

    def __call__(self, predictions: FlatPredictions, targets: DenseTargets) -> dict[str, LossSum]:
        """Sum the losses of a batch; see :data:`CRITERION_REGISTRY`.

        Raises:
            ValueError: the head predicts centerness.
        """
        reject_centerness(predictions, self)
        scores, boxes = predictions.scores, predictions.boxes
        positive = is_positive(scores, targets)
        ious = box_iou(boxes.detach(), targets.gt_boxes)
        soft_labels = soft_class_targets(scores, targets, ious)
        # QFL has the form of eq. 11 with the IoU in place of t-hat.
        losses = task_aligned_focal_loss(scores, soft_labels, self.beta)
        weights = torch.where(positive, scores.detach().amax(-1), 0.0)
        count = positive.sum().to(scores.dtype)
        giou = weighted_giou_sum(boxes, targets, weights)
        return {
            "loss_cls": LossSum(sum_valid(losses, targets.gt_classes), count),
            "loss_box_reg": LossSum(giou, weights.sum()),
        }
