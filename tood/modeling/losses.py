"""Losses of both phases: pure functions of tensors, and the two criteria that combine them.

A criterion turns the predictions and labels of a batch into sums and normalisers; dividing, and
the mean of the normalisers over processes, are the meta-architecture's business.

Shapes: **N** images, **R** points over all levels, **K** classes. Scores are probabilities.
Everything is float32.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from detectron2.utils.registry import Registry
from torch import Tensor

from ..errors import ConfigError
from .assigners.base import IGNORED
from .box_ops import box_area, centerness

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


def _bce(pred_scores: Tensor, targets: Tensor) -> Tensor:
    """Binary cross entropy that takes a score that is no number.

    PyTorch's stops the program there, on a GPU for good. The factor that both losses have beside it
    keeps the NaN in the sum, where training notices it.
    """
    return F.binary_cross_entropy(pred_scores.nan_to_num(nan=0.5), targets, reduction="none")


def focal_loss(pred_scores: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
    """Focal loss on probabilities (Lin et al., ICCV 2017).

    Args:
        pred_scores: (...) probabilities.
        targets: (...) 0 or 1.
        alpha: weight of the positives; negatives have 1 - alpha.
        gamma: focusing exponent.

    Returns:
        (...) losses.
    """
    miss = pred_scores * (1 - targets) + (1 - pred_scores) * targets
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return _bce(pred_scores, targets) * weight * miss.pow(gamma)


def task_aligned_focal_loss(pred_scores: Tensor, targets: Tensor, gamma: float) -> Tensor:
    """|t-hat - s|^gamma * BCE(s, t-hat), the classification loss of TAL (paper: eq. 11).

    The gradient also flows through the modulating factor, as in the reference.

    Args:
        pred_scores: (...) probabilities s.
        targets: (...) t-hat in [0, 1]; 0 for negatives.
        gamma: focusing exponent.

    Returns:
        (...) losses.
    """
    return _bce(pred_scores, targets) * (targets - pred_scores).abs().pow(gamma)


def giou_loss(pred_boxes: Tensor, gt_boxes: Tensor, eps: float = 1e-6) -> Tensor:
    """1 - GIoU (Rezatofighi et al., CVPR 2019), defined for every box.

    fvcore's stops at an inverted box, and the bare formula leaves [0, 2] there: here an inverted
    box has area 0, and the enclosing box is that of all four corners.

    Args:
        pred_boxes: (..., 4) in any unit, also inverted or without area.
        gt_boxes: (..., 4) in the same unit.
        eps: lower bound of the union and of the enclosing area.

    Returns:
        (...) losses in [0, 2].
    """
    low = torch.minimum(pred_boxes[..., :2], pred_boxes[..., 2:])
    high = torch.maximum(pred_boxes[..., :2], pred_boxes[..., 2:])
    overlap = torch.minimum(pred_boxes[..., 2:], gt_boxes[..., 2:]) - torch.maximum(
        pred_boxes[..., :2], gt_boxes[..., :2]
    )
    inter = overlap.clamp(min=0).prod(-1)
    union = (box_area(pred_boxes) + box_area(gt_boxes) - inter).clamp(min=eps)
    around = torch.maximum(high, gt_boxes[..., 2:]) - torch.minimum(low, gt_boxes[..., :2])
    enclosing = around.clamp(min=0).prod(-1).clamp(min=eps)
    # Within [0, 2] but for rounding.
    return (1 - inter / union + (enclosing - union) / enclosing).clamp(0, 2)


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


@CRITERION_REGISTRY.register()
class CenternessFocalCriterion:
    """The warm-up's losses: focal loss with hard labels, GIoU weighted by centerness.

    The classification loss is divided by the number of positives, the box loss by the sum of the
    weights. There is no centerness branch: the weight is the centerness of the point in its
    ground truth.

    Args:
        alpha: weight of the positives in the focal loss.
        gamma: its focusing exponent.
    """

    config_node = "FOCAL_LOSS"

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0) -> None:
        self.alpha, self.gamma = alpha, gamma

    def __call__(self, predictions: FlatPredictions, labels: PointLabels) -> dict[str, LossSum]:
        """Sum the losses of a batch; see :data:`CRITERION_REGISTRY`."""
        scores = predictions.scores
        positive = _is_positive(scores, labels).to(scores.dtype)
        targets = _class_targets(scores, labels, positive)
        losses = focal_loss(scores, targets, self.alpha, self.gamma)
        weights = centerness(labels.points, labels.gt_boxes) * positive
        return {
            "loss_cls": LossSum(_valid_sum(losses, labels.gt_classes), positive.sum()),
            "loss_box_reg": LossSum(
                _weighted_giou(predictions.boxes, labels, weights), weights.sum()
            ),
        }


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
            ConfigError: the assigner gave no alignment metrics.
        """
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
