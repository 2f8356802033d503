"""The losses of task alignment learning (paper: section 3.2.2)."""

from ..losses import task_aligned_focal_loss
from ..structures import DenseTargets, FlatPredictions, LossSum
from .base import (
    CRITERION_REGISTRY,
    reject_centerness,
    soft_class_targets,
    sum_valid,
    weighted_giou_sum,
)


@CRITERION_REGISTRY.register()
class TaskAlignedCriterion:
    """The losses of task alignment learning (paper: eqs. 10-12).

    The normalized alignment t-hat is the soft label of the class and the weight of the box loss;
    both losses are divided by its sum.

    Args:
        gamma: focusing exponent of eq. 11.
    """

    config_node = "CRITERIA.TASK_ALIGNED_LOSS"
    supports_centerness = False
    needs_alignment_metrics = True

    def __init__(self, gamma: float = 2.0) -> None:
        self.gamma = gamma

    def __call__(self, predictions: FlatPredictions, targets: DenseTargets) -> dict[str, LossSum]:
        """Sum the losses of a batch; see :data:`CRITERION_REGISTRY`.

        Raises:
            ValueError: the assigner returned no alignment metrics, or the head predicts
                centerness.
        """
        reject_centerness(predictions, self)
        weights = targets.norm_alignment_metrics
        if weights is None:
            raise ValueError(
                "TaskAlignedCriterion needs an assigner that returns norm_alignment_metrics, such "
                "as TaskAlignedAssigner; with other assigners use CenternessFocalCriterion"
            )
        soft_labels = soft_class_targets(predictions.scores, targets, weights)
        losses = task_aligned_focal_loss(predictions.scores, soft_labels, self.gamma)
        giou = weighted_giou_sum(predictions.boxes, targets, weights)
        normalizer = weights.sum()
        return {
            "loss_cls": LossSum(sum_valid(losses, targets.gt_classes), normalizer),
            "loss_box_reg": LossSum(giou, normalizer),
        }
