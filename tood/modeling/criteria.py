"""Criteria: what the losses of a phase are, given predictions and labels of a batch.

A criterion returns sums and normalisers; dividing, and the mean of the normalisers over processes,
are the meta-architecture's business. Scores are probabilities, and everything is float32.

Shapes: **N** images, **R** points over all levels, **K** classes.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from detectron2.utils.registry import Registry
from torch import Tensor

from ..errors import ConfigError
from .assigners.base import IGNORED
from .box_ops import box_iou, centerness
from .losses import (
    binary_cross_entropy,
    focal_loss,
    giou_loss,
    log_distance_loss,
    task_aligned_focal_loss,
)

CRITERION_REGISTRY = Registry("CRITERION")
CRITERION_REGISTRY.__doc__ = """
Criteria: the losses of one phase, given the labels that its assigner made. Chosen by name through
``MODEL.TOOD.WARMUP.CRITERION`` and ``MODEL.TOOD.ALIGNED.CRITERION``; the config node that the
class attribute ``config_node`` names holds the constructor's arguments, in lower case. Called with
:class:`FlatPredictions` and :class:`PointLabels`, they return a :class:`LossSum` for each loss, by
its name, ``loss_...``.
"""


class FlatPredictions(NamedTuple):
    """A head's predictions for a batch, over all levels.

    Attributes:
        scores: (N, R, K) probabilities.
        boxes: (N, R, 4) in strides of the point's level.
        centerness: (N, R, 1) probabilities, from heads that predict it.
    """

    scores: Tensor
    boxes: Tensor
    centerness: Tensor | None = None


@dataclass(frozen=True)
class PointLabels:
    """What the points of a batch are to predict.

    Attributes:
        gt_classes: (N, R) int64: a class in [0, K), K for background, -1 for ignored points,
            among them the cells of a batch's padding.
        gt_boxes: (N, R, 4) the boxes to predict, in strides of the point's level; 0 where
            there is none.
        points: (R, 2) the points, in strides of their level.
        norm_alignment_metrics: (N, R) t-hat, 0 for background; None where the assigner has none.
    """

    gt_classes: Tensor
    gt_boxes: Tensor
    points: Tensor
    norm_alignment_metrics: Tensor | None = None


class LossSum(NamedTuple):
    """A loss summed over a batch, and what it is to be divided by (both scalars)."""

    total: Tensor
    normalizer: Tensor


def _valid_sum(losses: Tensor, gt_classes: Tensor) -> Tensor:
    """Sum of losses (N, R, K) over the points that are not ignored."""
    return torch.where(gt_classes == IGNORED, 0.0, losses.sum(-1)).sum()


def _class_targets(pred_scores: Tensor, labels: PointLabels, values: Tensor) -> Tensor:
    """(N, R, K): ``values`` (N, R) at the class of each positive point, 0 elsewhere."""
    positive = _is_positive(pred_scores, labels)
    column = torch.where(positive, labels.gt_classes, 0)[..., None]
    values = torch.where(positive, values, 0.0)[..., None]
    return torch.zeros_like(pred_scores).scatter(2, column, values)


def _is_positive(pred_scores: Tensor, labels: PointLabels) -> Tensor:
    return (labels.gt_classes >= 0) & (labels.gt_classes < pred_scores.shape[-1])


def _weighted_giou(pred_boxes: Tensor, labels: PointLabels, weights: Tensor) -> Tensor:
    """Sum of the GIoU losses, weighted by ``weights`` (N, R); those of weight 0 are not looked at.

    Without picking the positives, which would wait for the device. Where the weight is 0 the
    ground truth takes the prediction's place, so that not even an infinite box gets into the sum
    or its gradient; and with no positive at all the sum is still part of the graph.
    """
    boxes = torch.where((weights > 0)[..., None], pred_boxes, labels.gt_boxes)
    return (giou_loss(boxes, labels.gt_boxes) * weights).sum()


def _focal_sum(
    predictions: FlatPredictions, labels: PointLabels, alpha: float, gamma: float
) -> tuple[Tensor, Tensor]:
    """Sum of the focal losses with hard labels, and (N, R) 1 for positives, else 0."""
    scores = predictions.scores
    positive = _is_positive(scores, labels).to(scores.dtype)
    targets = _class_targets(scores, labels, positive)
    losses = focal_loss(scores, targets, alpha, gamma)
    return _valid_sum(losses, labels.gt_classes), positive


def _refuse_centerness(predictions: FlatPredictions, criterion: object) -> None:
    """Raise a ConfigError for a head with a centerness branch, which would never be trained."""
    if predictions.centerness is not None:
        raise ConfigError(
            f"{type(criterion).__name__} has no loss for the head's centerness branch: set "
            "MODEL.TOOD.PARALLEL_HEAD.CENTERNESS False, or choose CenternessFocalCriterion"
        )


@CRITERION_REGISTRY.register()
class FocalCriterion:
    """Focal loss with hard labels, GIoU with the same weight for every positive.

    What is left of the others without weights; both are divided by the number of positives.

    Args:
        alpha: weight of the positives in the focal loss.
        gamma: its focusing exponent.
    """

    config_node = "FOCAL_LOSS"

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0) -> None:
        self.alpha, self.gamma = alpha, gamma

    def __call__(self, predictions: FlatPredictions, labels: PointLabels) -> dict[str, LossSum]:
        """Sum the losses of a batch; see :data:`CRITERION_REGISTRY`.

        Raises:
            ConfigError: the head predicts centerness.
        """
        _refuse_centerness(predictions, self)
        focal, positive = _focal_sum(predictions, labels, self.alpha, self.gamma)
        count = positive.sum()
        return {
            "loss_cls": LossSum(focal, count),
            "loss_box_reg": LossSum(_weighted_giou(predictions.boxes, labels, positive), count),
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

    def __call__(self, predictions: FlatPredictions, labels: PointLabels) -> dict[str, LossSum]:
        """Sum the losses of a batch; see :data:`CRITERION_REGISTRY`."""
        focal, positive = _focal_sum(predictions, labels, self.alpha, self.gamma)
        weights = centerness(labels.points, labels.gt_boxes) * positive
        sums = {
            "loss_cls": LossSum(focal, positive.sum()),
            "loss_box_reg": LossSum(
                _weighted_giou(predictions.boxes, labels, weights), weights.sum()
            ),
        }
        if predictions.centerness is not None:
            branch = predictions.centerness[..., 0]
            # Without the focusing factors of the others, training would not notice a NaN.
            losses = torch.where(branch.isnan(), torch.nan, binary_cross_entropy(branch, weights))
            losses = torch.where(positive > 0, losses, 0.0)
            sums["loss_centerness"] = LossSum(losses.sum(), positive.sum())
        return sums


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

    config_node = "FOVEABOX_LOSS"

    def __init__(self, alpha: float = 0.4, gamma: float = 1.5, beta: float = 0.11) -> None:
        self.alpha, self.gamma, self.beta = alpha, gamma, beta

    def __call__(self, predictions: FlatPredictions, labels: PointLabels) -> dict[str, LossSum]:
        """Sum the losses of a batch; see :data:`CRITERION_REGISTRY`.

        Raises:
            ConfigError: the head predicts centerness.
        """
        _refuse_centerness(predictions, self)
        focal, positive = _focal_sum(predictions, labels, self.alpha, self.gamma)
        # As in _weighted_giou, an infinite box without a label stays out.
        boxes = torch.where(positive[..., None] > 0, predictions.boxes, labels.gt_boxes)
        losses = log_distance_loss(labels.points, boxes, labels.gt_boxes, self.beta)
        count = positive.sum()
        return {
            "loss_cls": LossSum(focal, count + len(positive)),
            "loss_box_reg": LossSum((losses * positive).sum(), count),
        }


@CRITERION_REGISTRY.register()
class QualityFocalCriterion:
    """Quality focal loss (QFL; Li et al., NeurIPS 2020): the label of a positive is its IoU.

    The box loss, GIoU, is weighted by the highest score of the positive and divided by the sum of
    these weights; the classification loss by the number of positives.

    Args:
        beta: focusing exponent.
    """

    config_node = "QUALITY_FOCAL_LOSS"

    def __init__(self, beta: float = 2.0) -> None:
        self.beta = beta

    def __call__(self, predictions: FlatPredictions, labels: PointLabels) -> dict[str, LossSum]:
        """Sum the losses of a batch; see :data:`CRITERION_REGISTRY`.

        Raises:
            ConfigError: the head predicts centerness.
        """
        _refuse_centerness(predictions, self)
        scores, boxes = predictions.scores, predictions.boxes
        positive = _is_positive(scores, labels)
        ious = box_iou(boxes.detach(), labels.gt_boxes)
        targets = _class_targets(scores, labels, ious)
        losses = task_aligned_focal_loss(scores, targets, self.beta)
        weights = torch.where(positive, scores.detach().amax(-1), 0.0)
        count = positive.sum().to(scores.dtype)
        return {
            "loss_cls": LossSum(_valid_sum(losses, labels.gt_classes), count),
            "loss_box_reg": LossSum(_weighted_giou(boxes, labels, weights), weights.sum()),
        }
