"""The registry of criteria, and what they share.

A criterion returns sums and normalizers. Dividing, and averaging the normalizers over processes, is
the detector's job. Scores are probabilities, boxes are in pixels, and everything is float32.

Shapes: **N** images, **R** points over all levels, **K** classes.
"""

import torch
from detectron2.utils.registry import Registry
from torch import Tensor

from ..losses import focal_loss, giou_loss
from ..structures import IGNORED_CLASS, DenseTargets, FlatPredictions

CRITERION_REGISTRY = Registry("CRITERION")
CRITERION_REGISTRY.__doc__ = """
Criteria compute the losses of one training phase from the targets that its assigner made. They are
chosen by name in the config; the config node that the class attribute ``config_node`` names holds
the constructor's arguments, in lower case. They are called with :class:`FlatPredictions` and
:class:`DenseTargets` and return a :class:`LossSum` for each loss, by its name, ``loss_...``. Two
optional class attributes let wrong combinations fail when the model is built:
``supports_centerness = False`` for criteria without a loss for a centerness branch, and
``needs_alignment_metrics = True`` for those that need an assigner with alignment metrics.
"""


def is_positive(scores: Tensor, targets: DenseTargets) -> Tensor:
    """(N, R) bool: the points that have a ground truth to predict."""
    return (targets.gt_classes >= 0) & (targets.gt_classes < scores.shape[-1])


def sum_valid(losses: Tensor, gt_classes: Tensor) -> Tensor:
    """Sum losses (N, R, K) over the points that are not ignored."""
    return torch.where(gt_classes == IGNORED_CLASS, 0.0, losses.sum(-1)).sum()


def soft_class_targets(scores: Tensor, targets: DenseTargets, values: Tensor) -> Tensor:
    """(N, R, K): ``values`` (N, R) at the class of each positive point, 0 elsewhere."""
    positive = is_positive(scores, targets)
    column = torch.where(positive, targets.gt_classes, 0)[..., None]
    values = torch.where(positive, values, 0.0)[..., None]
    return torch.zeros_like(scores).scatter(2, column, values)


def weighted_giou_sum(boxes: Tensor, targets: DenseTargets, weights: Tensor) -> Tensor:
    """Sum of the GIoU losses of boxes (N, R, 4), weighted by ``weights`` (N, R).

    Avoids selecting positives, which would synchronize. Zero-weight boxes are replaced by their
    targets so that infinities reach neither the sum nor its gradient. Without any positive the sum
    is still part of the graph.
    """
    boxes = torch.where((weights > 0)[..., None], boxes, targets.gt_boxes)
    return (giou_loss(boxes, targets.gt_boxes) * weights).sum()


def focal_sum(
    scores: Tensor, targets: DenseTargets, alpha: float, gamma: float
) -> tuple[Tensor, Tensor]:
    """Sum of the focal losses with hard labels, and (N, R) 1 for positives, else 0."""
    positive = is_positive(scores, targets).to(scores.dtype)
    losses = focal_loss(scores, soft_class_targets(scores, targets, positive), alpha, gamma)
    return sum_valid(losses, targets.gt_classes), positive


def reject_centerness(predictions: FlatPredictions, criterion: object) -> None:
    """Raise a ValueError for a head with a centerness branch, which would never be trained."""
    if predictions.centerness is not None:
        raise ValueError(
            f"{type(criterion).__name__} has no loss for the head's centerness branch. Build the "
            "head without centerness, or use CenternessFocalCriterion."
        )
