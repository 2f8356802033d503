"""The registry of criteria and what they share."""

import torch
from detectron2.utils.registry import Registry
from torch import Tensor

from ...errors import ConfigError
from ..losses import giou_loss
from ..structures import IGNORED, DenseTargets, FlatPredictions

CRITERION_REGISTRY = Registry("CRITERION")
CRITERION_REGISTRY.__doc__ = """
Criteria: the losses of one phase, given the labels that its assigner made. Chosen by name through
``MODEL.TOOD.WARMUP.CRITERION`` and ``MODEL.TOOD.ALIGNED.CRITERION``; the config node that the
class attribute ``config_node`` names holds the constructor's arguments, in lower case. Called with
:class:`FlatPredictions` and :class:`DenseTargets`, they return a :class:`LossSum` for each loss, by
its name, ``loss_...``.
"""


def sum_valid(losses: Tensor, gt_classes: Tensor) -> Tensor:
    """Sum of losses (N, R, K) over the points that are not ignored."""
    return torch.where(gt_classes == IGNORED, 0.0, losses.sum(-1)).sum()


def soft_class_targets(pred_scores: Tensor, labels: DenseTargets, values: Tensor) -> Tensor:
    """(N, R, K): ``values`` (N, R) at the class of each positive point, 0 elsewhere."""
    positive = is_positive(pred_scores, labels)
    column = torch.where(positive, labels.gt_classes, 0)[..., None]
    values = torch.where(positive, values, 0.0)[..., None]
    return torch.zeros_like(pred_scores).scatter(2, column, values)


def is_positive(pred_scores: Tensor, labels: DenseTargets) -> Tensor:
    """(N, R) bool: the points that have a ground truth to predict."""
    return (labels.gt_classes >= 0) & (labels.gt_classes < pred_scores.shape[-1])


def weighted_giou_sum(pred_boxes: Tensor, labels: DenseTargets, weights: Tensor) -> Tensor:
    """Sum of the GIoU losses, weighted by ``weights`` (N, R); those of weight 0 are not looked at.

    Without picking the positives, which would wait for the device. Where the weight is 0 the
    ground truth takes the prediction's place, so that not even an infinite box gets into the sum
    or its gradient; and with no positive at all the sum is still part of the graph.
    """
    boxes = torch.where((weights > 0)[..., None], pred_boxes, labels.gt_boxes)
    return (giou_loss(boxes, labels.gt_boxes) * weights).sum()


def reject_centerness(predictions: FlatPredictions, criterion: object) -> None:
    """Raise a ConfigError for a head with a centerness branch, which would never be trained."""
    if predictions.centerness is not None:
        raise ConfigError(
            f"{type(criterion).__name__} has no loss for the head's centerness branch: set "
            "MODEL.TOOD.PARALLEL_HEAD.CENTERNESS False, or choose CenternessFocalCriterion"
        )
