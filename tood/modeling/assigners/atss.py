"""Adaptive training sample selection (ATSS, Zhang et al., CVPR 2020): the warm-up's assigner."""

from collections.abc import Sequence

import torch
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


@ASSIGNER_REGISTRY.register()
class ATSSAssigner(Assigner):
    """Picks samples by the statistics of the anchors near each ground truth.

    As both reference implementations do it:

    1. the candidates of a ground truth are, on each level, the ``topk`` anchors whose centers are
       nearest to its center;
    2. its threshold is the mean plus the (unbiased) standard deviation of their IoUs with it;
    3. it claims the candidates that reach the threshold and whose center is inside it by more
       than 0.01 px;
    4. an anchor that several claim goes to the highest IoU.

    With a single candidate in all, the standard deviation counts as 0, so that the threshold is a
    number (the reference's is NaN, and assigns nothing).

    Args:
        topk: candidates per ground truth and level.
        num_classes: K, the class of background when the call does not say another.
        chunk_size: ground truths that are looked at together; see :class:`TaskAlignedAssigner`.

    Raises:
        ValueError: topk or chunk_size below 1.
    """

    config_node = "ASSIGNERS.ATSS"

    def __init__(self, topk: int = 9, num_classes: int = 80, chunk_size: int | None = None) -> None:
        validate_counts(topk, chunk_size)
        self.topk, self.num_classes, self.chunk_size = topk, num_classes, chunk_size

    def assign(self, samples: AssignerInput, gt_boxes: Tensor, gt_classes: Tensor) -> Assignment:
        """See :meth:`Assigner.assign`."""
        return self(
            samples.anchors,
            samples.num_anchors_per_level,
            gt_boxes,
            gt_classes,
            num_classes=samples.pred_scores.shape[1],
        )

    @torch.no_grad()
    def __call__(
        self,
        anchors: Tensor,
        num_anchors_per_level: Sequence[int],
        gt_boxes: Tensor,
        gt_classes: Tensor,
        num_classes: int | None = None,
    ) -> Assignment:
        """Assign the anchors of one image.

        Args:
            anchors: (R, 4) pixels, level after level.
            num_anchors_per_level: how many of them each level has.
            gt_boxes: (M, 4) pixels; M may be 0.
            gt_classes: (M,) int64 in [0, K).
            num_classes: K; by default what the constructor was given.

        Returns:
            An :class:`Assignment` without alignment metrics.

        Raises:
            ValueError: shapes that do not fit together.
        """
        if num_classes is None:
            num_classes = self.num_classes
        validate_ground_truth(gt_boxes, gt_classes, num_classes)
        num_anchors_per_level = [int(n) for n in num_anchors_per_level]
        if anchors.shape != (sum(num_anchors_per_level), 4):
            raise ValueError(
                f"anchors must have the shape (R, 4) with R = {sum(num_anchors_per_level)}, the "
                f"sum of num_anchors_per_level, not {tuple(anchors.shape)}"
            )
        num_anchors = len(anchors)
        if len(gt_boxes) == 0 or num_anchors == 0:
            matched_idxs = torch.full((num_anchors,), -1, device=anchors.device)
            return Assignment(matched_idxs, torch.full_like(matched_idxs, num_classes))

        with torch.autocast(anchors.device.type, enabled=False):
            anchors, boxes = anchors.float(), gt_boxes.float()
            idxs = self._candidates(box_centers(anchors), num_anchors_per_level, box_centers(boxes))
            candidates = anchors[idxs]
            ious = box_iou(candidates, boxes[:, None])
            spread = ious.std(1, keepdim=True) if idxs.shape[1] > 1 else torch.zeros_like(ious)
            inside = points_inside_boxes(box_centers(candidates), boxes[:, None])
            keep = inside & (ious >= ious.mean(1, keepdim=True) + spread)
            matched_idxs = resolve_conflicts(idxs, ious, keep, num_anchors)
        return Assignment(matched_idxs, gather_gt_classes(matched_idxs, gt_classes, num_classes))

    def _candidates(
        self, centers: Tensor, num_anchors_per_level: list[int], gt_centers: Tensor
    ) -> Tensor:
        """(M, k) indices of the anchors nearest to each ground truth, level after level."""
        chunk = default_chunk_size(self.chunk_size, centers.device)
        x, y = centers.t().contiguous().unbind(0)
        found = []
        for gt_x, gt_y in (part.unbind(1) for part in gt_centers.split(chunk)):
            distances = (gt_x[:, None] - x).square_()
            distances.add_((gt_y[:, None] - y).square_())
            start, per_level = 0, []
            for level in distances.split(num_anchors_per_level, dim=1):
                k = min(self.topk, level.shape[1])
                per_level.append(level.topk(k, dim=1, largest=False).indices + start)
                start += level.shape[1]
            found.append(torch.cat(per_level, dim=1))
        return torch.cat(found)
