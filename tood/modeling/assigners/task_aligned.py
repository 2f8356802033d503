"""The task-aligned assigner of task alignment learning (TAL; paper: section 3.2.1).

Shapes: **R** points over all levels, **M** ground truths of one image, **m** of them in a chunk,
**K** classes, **k** candidates of one ground truth.
"""

import torch
from torch import Tensor

from ..box_ops import box_centers, box_iou, points_inside_boxes
from ..structures import AssignerInput, Assignment
from .alignment_metric import IOU_FUNCTIONS, alignment_metric
from .base import (
    ASSIGNER_REGISTRY,
    Assigner,
    default_chunk_size,
    resolve_conflicts,
    unmatched,
    validate_counts,
    validate_ground_truth,
)
from .min_positives import EXTRA_CANDIDATES, assign_min_positives, nearest_unassigned_points

# Minimum weight of a guaranteed positive: its prediction may not overlap its ground truth yet.
MIN_POSITIVE_WEIGHT = 0.1


@ASSIGNER_REGISTRY.register()
class TaskAlignedAssigner(Assigner):
    """Selects, for each ground truth, the points whose predictions are best aligned with it.

    Exactly the rule of both reference implementations:

    1. Compute t = s^alpha * u^beta (eq. 9) for every ground truth and point, where s is the score
       of the ground truth's class and u the IoU of the predicted box.
    2. Each ground truth claims the ``topk`` points of largest t over all levels, then drops those
       with t = 0 and those whose point is not inside it by more than 0.01 px. Dropped points are
       not replaced, so a ground truth can end up with none.
    3. A point that several ground truths claim goes to the highest IoU.
    4. t-hat (section 3.2.2) rescales t over the positives of each ground truth, so that its maximum
       is their largest IoU.

    Four changes by later work are arguments here, off by default: ``candidates_inside_gt``,
    ``min_gt_size``, ``min_positives`` and ``iou_type``.

    Works in chunks of ground truths, so that memory does not grow with their number, and never
    synchronizes with the device. The chunk size does not influence the result.

    Args:
        topk: m of the paper, candidates per ground truth.
        alpha: exponent of the score.
        beta: exponent of the IoU.
        eps: added to the largest t before dividing by it: 1e-7 in the reference (written 10e-8). It
            matters where t itself is that small.
        chunk_size: ground truths processed together; by default 16 on a CPU, else 64.
        candidates_inside_gt: in step 2, only points inside the ground truth are candidates.
        min_gt_size: minimum side length (pixels) used in the inside test of step 2; shorter sides
            are extended to it, so that a box that lies between points contains some.
        min_positives: a ground truth with fewer positives gets the unassigned points nearest to its
            center, except in dense crowds. Their t-hat is the IoU of the prediction, at least
            0.1.
        iou_type: u, a key of :data:`IOU_FUNCTIONS`.

    Raises:
        ValueError: ``topk`` or ``chunk_size`` is below 1, ``iou_type`` is unknown, or another
            number is negative.
    """

    config_node = "ASSIGNERS.TAL"
    returns_alignment_metrics = True

    def __init__(
        self,
        topk: int = 13,
        alpha: float = 1.0,
        beta: float = 6.0,
        eps: float = 1e-7,
        chunk_size: int | None = None,
        *,
        candidates_inside_gt: bool = False,
        min_gt_size: float = 0.0,
        min_positives: int = 0,
        iou_type: str = "iou",
    ) -> None:
        validate_counts(topk, chunk_size)
        if min(alpha, beta, min_gt_size, min_positives) < 0:
            raise ValueError(
                f"alpha, beta, min_gt_size and min_positives must not be negative, not {alpha}, "
                f"{beta}, {min_gt_size} and {min_positives}"
            )
        if iou_type not in IOU_FUNCTIONS:
            raise ValueError(
                f"Unknown iou_type {iou_type!r}. Available: {', '.join(IOU_FUNCTIONS)}"
            )
        self.topk, self.alpha, self.beta, self.eps = topk, alpha, beta, eps
        self.chunk_size = chunk_size
        self.candidates_inside_gt = candidates_inside_gt
        self.min_gt_size = min_gt_size
        self.min_positives = min_positives
        self.iou_type = iou_type

    def assign(self, inputs: AssignerInput, gt_boxes: Tensor, gt_classes: Tensor) -> Assignment:
        """See :meth:`Assigner.assign`; reads scores, boxes and centers."""
        return self(inputs.scores, inputs.boxes, inputs.centers, gt_boxes, gt_classes)

    @torch.no_grad()
    def __call__(
        self,
        scores: Tensor,
        boxes: Tensor,
        points: Tensor,
        gt_boxes: Tensor,
        gt_classes: Tensor,
    ) -> Assignment:
        """Shortcut for :meth:`assign` on plain tensors, for training loops without this package.

        Computes in float32 whatever the dtype of the arguments: u^6 underflows in float16.

        Args:
            scores: (R, K) predicted probabilities.
            boxes: (R, 4) predicted boxes in pixels.
            points: (R, 2) pixels.
            gt_boxes: (M, 4) pixels; M may be 0, or thousands.
            gt_classes: (M,) int64 in [0, K).

        Returns:
            An :class:`Assignment` with both alignment metrics.

        Raises:
            ValueError: the shapes do not fit together, or a class is outside of [0, K).
        """
        num_points, num_classes = scores.shape
        validate_ground_truth(gt_boxes, gt_classes)
        _validate_classes(gt_classes, num_classes)
        if boxes.shape != (num_points, 4) or points.shape != (num_points, 2):
            raise ValueError(
                f"scores {tuple(scores.shape)}, boxes {tuple(boxes.shape)} and points "
                f"{tuple(points.shape)} must have the shapes (R, K), (R, 4) and (R, 2)"
            )
        if len(gt_boxes) == 0 or num_points == 0:
            zeros = torch.zeros(num_points, device=scores.device)
            return Assignment(unmatched(num_points, scores.device), zeros, zeros.clone())
        boxes, points, gt_boxes = boxes.float(), points.float(), gt_boxes.float()
        assignment = self._assign_float32(scores, boxes, points, gt_boxes, gt_classes)
        if self.min_positives:
            assignment = self._add_min_positives(
                assignment, scores, boxes, points, gt_boxes, gt_classes
            )
        return assignment

    def _assign_float32(
        self, scores: Tensor, boxes: Tensor, points: Tensor, gt_boxes: Tensor, gt_classes: Tensor
    ) -> Assignment:
        """The four steps of the class docstring."""
        # 1. and the first half of 2.
        regions = _expand_small_boxes(gt_boxes, self.min_gt_size)
        idxs, metrics, ious = self._candidates(
            scores, boxes, points, gt_boxes, gt_classes, regions
        )  # each (M, k)
        # 2.
        keep = points_inside_boxes(points[idxs], regions[:, None]) & (metrics > 0)
        # 3.
        matched_idxs = resolve_conflicts(idxs, ious, keep, len(points))
        gt_idxs = torch.arange(len(gt_boxes), device=idxs.device)[:, None]
        won = keep & (matched_idxs[idxs] == gt_idxs)
        # 4.
        metrics = torch.where(won, metrics, 0.0)
        ious = torch.where(won, ious, 0.0)
        norm_metrics = metrics / (metrics.amax(1, keepdim=True) + self.eps)
        norm_metrics = norm_metrics * ious.amax(1, keepdim=True)
        # If every prediction is NaN, propagate NaN so that training stops.
        all_nan = boxes.isnan().any(1).all()
        norm_metrics = torch.where(all_nan, torch.nan, norm_metrics)

        def per_point(values: Tensor) -> Tensor:
            # Only the ground truth that won a point has a nonzero value for it.
            zeros = values.new_zeros(len(points))
            return zeros.scatter_reduce(0, idxs.flatten(), values.flatten(), "amax")

        return Assignment(matched_idxs, per_point(metrics), per_point(norm_metrics))

    def _candidates(
        self,
        scores: Tensor,
        boxes: Tensor,
        points: Tensor,
        gt_boxes: Tensor,
        gt_classes: Tensor,
        regions: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The ``topk`` points of each ground truth: indices, t and u, each (M, k)."""
        k = min(self.topk, len(boxes))
        chunk = default_chunk_size(self.chunk_size, boxes.device)
        class_scores = scores.t()
        # One coordinate after the other in memory, which the arithmetic below reads fastest.
        boxes = boxes.t().contiguous().t()
        iou_function = IOU_FUNCTIONS[self.iou_type]
        found = []
        for gt_chunk, class_chunk, region_chunk in zip(
            gt_boxes.split(chunk), gt_classes.split(chunk), regions.split(chunk), strict=True
        ):
            ious = iou_function(gt_chunk, boxes)  # (m, R)
            class_chunk_scores = class_scores.index_select(0, class_chunk).float()
            metrics = alignment_metric(class_chunk_scores, ious, self.alpha, self.beta)
            if self.candidates_inside_gt:
                metrics *= points_inside_boxes(points, region_chunk[:, None])
            top_metrics, top_idxs = metrics.topk(k, dim=1)
            found.append((top_idxs, top_metrics, ious.gather(1, top_idxs)))
        idxs, metrics, ious = (torch.cat(parts) for parts in zip(*found, strict=True))
        return idxs, metrics, ious

    def _add_min_positives(
        self,
        assignment: Assignment,
        scores: Tensor,
        boxes: Tensor,
        points: Tensor,
        gt_boxes: Tensor,
        gt_classes: Tensor,
    ) -> Assignment:
        """Give every ground truth ``min_positives`` points, except in dense crowds."""
        matched_idxs = assignment.matched_idxs
        nearest = nearest_unassigned_points(
            points,
            matched_idxs >= 0,
            gt_boxes,
            self.min_positives + EXTRA_CANDIDATES,
            default_chunk_size(self.chunk_size, points.device),
        )
        given = assign_min_positives(matched_idxs, nearest, self.min_positives)  # (R,)
        is_given = given >= 0
        ious = box_iou(gt_boxes[given], boxes)
        class_scores = scores.gather(1, gt_classes[given][:, None])[:, 0].float()
        metrics = alignment_metric(class_scores, ious, self.alpha, self.beta)
        weights = ious.clamp(min=MIN_POSITIVE_WEIGHT)
        return Assignment(
            torch.where(is_given, given, matched_idxs),
            torch.where(is_given, metrics, assignment.alignment_metrics),
            torch.where(is_given, weights, assignment.norm_alignment_metrics),
        )


def _validate_classes(gt_classes: Tensor, num_classes: int) -> None:
    """Raise a ValueError for classes without a score.

    Skipped on a GPU, where reading the labels would synchronize.
    """
    if gt_classes.device.type == "cpu" and len(gt_classes):
        lowest, highest = int(gt_classes.min()), int(gt_classes.max())
        if lowest < 0 or highest >= num_classes:
            raise ValueError(
                f"gt_classes range from {lowest} to {highest}, outside of [0, {num_classes}): "
                "set the number of classes to that of the data"
            )


def _expand_small_boxes(boxes: Tensor, min_gt_size: float) -> Tensor:
    """Extend sides of boxes (M, 4) that are shorter than ``min_gt_size`` to it, centers fixed."""
    if not min_gt_size:
        return boxes
    half = (boxes[:, 2:] - boxes[:, :2]).clamp(min=min_gt_size) / 2
    centers = box_centers(boxes)
    return torch.cat([centers - half, centers + half], dim=1)
