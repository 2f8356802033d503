"""The task-aligned assigner of task alignment learning (TAL; paper: section 3.2.1)."""

from collections.abc import Callable

import torch
import torchvision
from torch import Tensor

from ..box_ops import box_centers, box_iou, points_inside_boxes
from ..structures import AssignerInput, Assignment
from .base import (
    ASSIGNER_REGISTRY,
    Assigner,
    default_chunk_size,
    gather_gt_classes,
    resolve_conflicts,
    validate_counts,
    validate_ground_truth,
)
from .min_positives import EXTRA_CANDIDATES, assign_min_positives, nearest_unassigned_points

# With min_positives: the least weight of a positive that is there by guarantee. Its prediction may
# overlap its ground truth by nothing yet.
MIN_POSITIVE_WEIGHT = 0.1


def _clamped(iou: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """A pairwise overlap (m, R) of torchvision's, 0 where it is negative or no number."""
    return lambda boxes, pred_boxes: iou(boxes, pred_boxes).nan_to_num_(nan=0.0).clamp_(0, 1)


# What u can be: functions of ground truths (m, 4) and predictions (R, 4).
IOU_FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "iou": lambda boxes, pred_boxes: box_iou(boxes[:, None], pred_boxes),
    "giou": _clamped(torchvision.ops.generalized_box_iou),
    "diou": _clamped(torchvision.ops.distance_box_iou),
    "ciou": _clamped(torchvision.ops.complete_box_iou),
}


def _integer_power(x: Tensor, exponent: float) -> Tensor:
    """``x ** exponent``; small whole exponents by multiplications, many times faster on a CPU."""
    if exponent not in range(1, 9):
        return x.pow(exponent)
    exponent = int(exponent)
    result = None
    while True:
        if exponent & 1:
            result = x if result is None else result * x
        exponent >>= 1
        if not exponent:
            return result
        x = x * x


def _expand_small_boxes(boxes: Tensor, min_gt_size: float) -> Tensor:
    """Boxes (M, 4) whose sides are ``min_gt_size`` or longer, around the same centers."""
    if not min_gt_size:
        return boxes
    half = (boxes[:, 2:] - boxes[:, :2]).clamp(min=min_gt_size) / 2
    centers = box_centers(boxes)
    return torch.cat([centers - half, centers + half], dim=1)


@ASSIGNER_REGISTRY.register()
class TaskAlignedAssigner(Assigner):
    """Picks, for each ground truth, the points whose predictions align best with it.

    The rule of both reference implementations, exactly:

    1. t = s^alpha * u^beta (eq. 9) for every ground truth and point, with the score s of the
       ground truth's class and the IoU u of the predicted box;
    2. each ground truth claims the ``topk`` points of largest t over all levels, then loses those
       with t = 0 and those whose point is not inside it by more than 0.01 px (they are not
       replaced, so a ground truth can end without any);
    3. a point that several claim goes to the highest IoU;
    4. t-hat (section 3.2.2): t is scaled, over the points that a ground truth has in the end, so
       that its maximum is their largest IoU.

    Later work has changed the rule in four ways, each an argument here and off by default:
    ``candidates_inside_gt``, ``min_gt_size``, ``min_positives`` and ``iou_type``.

    Works in chunks of ground truths, so its memory does not grow with their number, and never
    waits for the device. The chunk has no influence on the result.

    Args:
        topk: m of the paper, candidates per ground truth.
        alpha: exponent of the score.
        beta: exponent of the IoU.
        eps: added to the largest t when it divides: 1e-7 in the reference (which writes 10e-8).
            It matters where t itself is that small.
        chunk_size: ground truths that are looked at together; by default 16 on a CPU, else 64.
        candidates_inside_gt: in step 2 only points inside the ground truth are candidates.
        min_gt_size: in pixels; sides of a ground truth that are shorter count as so long in the test
            of step 2, so that a box that lies between the points has some.
        min_positives: a ground truth that ends with fewer gets, of the points that no ground truth
            has, those nearest to its center. Their t-hat is the IoU of the prediction, and at
            least 0.1.
        iou_type: u, one of :data:`IOU_FUNCTIONS`.

    Raises:
        ValueError: topk or chunk_size below 1, an unknown iou_type, or another number below 0.
    """

    config_node = "ASSIGNERS.TAL"

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
            raise ValueError(f"iou_type is {iou_type!r}; it must be one of {list(IOU_FUNCTIONS)}")
        self.topk, self.alpha, self.beta, self.eps = topk, alpha, beta, eps
        self.candidates_inside_gt, self.min_gt_size, self.min_positives = (
            candidates_inside_gt,
            min_gt_size,
            min_positives,
        )
        self.iou_type = iou_type
        self.chunk_size = chunk_size

    def assign(self, samples: AssignerInput, gt_boxes: Tensor, gt_classes: Tensor) -> Assignment:
        """See :meth:`Assigner.assign`."""
        return self(samples.pred_scores, samples.pred_boxes, samples.points, gt_boxes, gt_classes)

    @torch.no_grad()
    def __call__(
        self,
        pred_scores: Tensor,
        pred_boxes: Tensor,
        points: Tensor,
        gt_boxes: Tensor,
        gt_classes: Tensor,
    ) -> Assignment:
        """Assign the points of one image.

        Computed in float32 whatever the dtype of the arguments: u^6 underflows in float16.

        Args:
            pred_scores: (R, K) probabilities.
            pred_boxes: (R, 4) pixels.
            points: (R, 2) pixels.
            gt_boxes: (M, 4) pixels; M may be 0, and thousands are fine.
            gt_classes: (M,) int64 in [0, K).

        Returns:
            An :class:`Assignment` with both alignment metrics.

        Raises:
            ValueError: shapes that do not fit together.
        """
        num_points, num_classes = pred_scores.shape
        validate_ground_truth(gt_boxes, gt_classes, num_classes)
        if pred_boxes.shape != (num_points, 4) or points.shape != (num_points, 2):
            raise ValueError(
                f"pred_scores {tuple(pred_scores.shape)}, pred_boxes {tuple(pred_boxes.shape)} "
                f"and points {tuple(points.shape)} must be (R, K), (R, 4) and (R, 2)"
            )
        if len(gt_boxes) == 0 or num_points == 0:
            zeros = torch.zeros(num_points, device=pred_scores.device)
            matched_idxs = torch.full_like(zeros, -1, dtype=torch.int64)
            gt_classes = torch.full_like(matched_idxs, num_classes)
            return Assignment(matched_idxs, gt_classes, zeros, zeros.clone())

        pred_boxes, points, gt_boxes = pred_boxes.float(), points.float(), gt_boxes.float()
        with torch.autocast(pred_scores.device.type, enabled=False):
            matched_idxs, metrics, norm_metrics = self._assign_float32(
                pred_scores, pred_boxes, points, gt_boxes, gt_classes
            )
            if self.min_positives:
                chunk = default_chunk_size(self.chunk_size, points.device)
                count = self.min_positives + EXTRA_CANDIDATES
                nearest = nearest_unassigned_points(
                    points, matched_idxs >= 0, gt_boxes, count, chunk
                )
                given = assign_min_positives(matched_idxs, nearest, self.min_positives)
                taken = given >= 0
                ious = box_iou(gt_boxes[given], pred_boxes)
                scores = pred_scores.gather(1, gt_classes[given][:, None])[:, 0].float()
                matched_idxs = torch.where(taken, given, matched_idxs)
                metrics = torch.where(taken, self.alignment_metric(scores, ious), metrics)
                weights = ious.clamp(min=MIN_POSITIVE_WEIGHT)
                norm_metrics = torch.where(taken, weights, norm_metrics)
        classes = gather_gt_classes(matched_idxs, gt_classes, num_classes)
        return Assignment(matched_idxs, classes, metrics, norm_metrics)

    def alignment_metric(self, scores: Tensor, ious: Tensor) -> Tensor:
        """T (eq. 9) of scores, which are overwritten, and IoUs of one shape."""
        return _integer_power(scores, self.alpha).mul_(_integer_power(ious, self.beta))

    def _assign_float32(
        self,
        pred_scores: Tensor,
        pred_boxes: Tensor,
        points: Tensor,
        gt_boxes: Tensor,
        gt_classes: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The four steps: of each point (R,) its ground truth or -1, t and t-hat."""
        regions = _expand_small_boxes(gt_boxes, self.min_gt_size)
        idxs, metrics, ious = self._candidates(
            pred_scores, pred_boxes, gt_boxes, gt_classes, points, regions
        )
        keep = points_inside_boxes(points[idxs], regions[:, None]) & (metrics > 0)
        matched_idxs = resolve_conflicts(idxs, ious, keep, len(points))
        gt_idxs = torch.arange(len(gt_boxes), device=idxs.device)[:, None]
        won = keep & (matched_idxs[idxs] == gt_idxs)
        metrics = torch.where(won, metrics, 0.0)
        ious = torch.where(won, ious, 0.0)
        norm_metrics = metrics / (metrics.amax(1, keepdim=True) + self.eps)
        norm_metrics = norm_metrics * ious.amax(1, keepdim=True)
        # Where no prediction is a number any more, neither is the loss: training has to notice.
        lost = pred_boxes.isnan().any(1).all()
        norm_metrics = torch.where(lost, torch.nan, norm_metrics)

        def per_point(values: Tensor) -> Tensor:
            # At most one candidate of a point is not 0: that of the ground truth which won it.
            zeros = values.new_zeros(len(points))
            return zeros.scatter_reduce(0, idxs.flatten(), values.flatten(), "amax")

        return matched_idxs, per_point(metrics), per_point(norm_metrics)

    def _candidates(
        self,
        pred_scores: Tensor,
        pred_boxes: Tensor,
        gt_boxes: Tensor,
        gt_classes: Tensor,
        points: Tensor,
        regions: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The ``topk`` points of each ground truth: indices, t and u, each (M, k)."""
        k = min(self.topk, len(pred_boxes))
        chunk = default_chunk_size(self.chunk_size, pred_boxes.device)
        class_scores = pred_scores.t()
        # Coordinates apart from each other in memory, which the arithmetic below reads fastest.
        pred_boxes = pred_boxes.t().contiguous().t()
        overlap = IOU_FUNCTIONS[self.iou_type]
        found = []
        for boxes, classes, region in zip(
            gt_boxes.split(chunk), gt_classes.split(chunk), regions.split(chunk), strict=True
        ):
            ious = overlap(boxes, pred_boxes)
            metrics = self.alignment_metric(class_scores.index_select(0, classes).float(), ious)
            if self.candidates_inside_gt:
                metrics *= points_inside_boxes(points, region[:, None])
            top_metrics, top_idxs = metrics.topk(k, dim=1)
            found.append((top_idxs, top_metrics, ious.gather(1, top_idxs)))
        idxs, metrics, ious = (torch.cat(parts) for parts in zip(*found, strict=True))
        return idxs, metrics, ious
