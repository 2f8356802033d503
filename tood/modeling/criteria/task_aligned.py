"""The losses of task alignment learning."""

from ...errors import ConfigError
from ..losses import task_aligned_focal_loss
from ..structures import FlatPredictions, LossSum, PointLabels
from .base import CRITERION_REGISTRY, _class_targets, _refuse_centerness, _valid_sum, _weighted_giou


@CRITERION_REGISTRY.register()
class TaskAlignedCriterion:
    """The losses of task alignment learning (paper: section 3.2.2, eqs. 10-12).

    The normalised alignment t-hat is the soft label of the class, the weight of the box loss,
    and, summed, what both are divided by.

    Args:
        gamma: focusing exponent of eq. 11.
    """

    config_node = "TASK_ALIGNED_LOSS"

    def __init__(self, gamma: float = 2.0) -> None:
        self.gamma = gamma

    def __call__(self, predictions: FlatPredictions, labels: PointLabels) -> dict[str, LossSum]:
        """Sum the losses of a batch; see :data:`CRITERION_REGISTRY`.

        Raises:
            ConfigError: the assigner gave no alignment metrics, or the head predicts centerness.
        """
        _refuse_centerness(predictions, self)
        weights = labels.norm_alignment_metrics
        if weights is None:
            raise ConfigError(
                "TaskAlignedCriterion needs an assigner that returns norm_alignment_metrics, such "
                "as TaskAlignedAssigner; for others choose CenternessFocalCriterion"
            )
        targets = _class_targets(predictions.scores, labels, weights)
        losses = task_aligned_focal_loss(predictions.scores, targets, self.gamma)
        normalizer = weights.sum()
        return {
            "loss_cls": LossSum(_valid_sum(losses, labels.gt_classes), normalizer),
            "loss_box_reg": LossSum(_weighted_giou(predictions.boxes, labels, weights), normalizer),
        }
