"""Adaptive training sample selection (ATSS, Zhang et al., CVPR 2020): the warm-up's assigner.

Shapes: **R** points over all levels, **M** ground truths of one image, **k** candidates of one
ground truth.
"""

import torch
from torch import Tensor

from ..box_ops import box_centers, box_iou, points_inside_boxes
from ..structures import AssignerInput, Assignment
from .base import (
    ASSIGNER_REGISTRY,
    Assigner,
    default_chunk_size,
    resolve_conflicts,
    unmatched,
    validate_counts,
    validate_ground_truth,
)


@ASSIGNER_REGISTRY.register()
class ATSSAssigner(Assigner):
    """Selects positives by the statistics of the anchors near each ground truth.

    As in both reference implementations:

    1. On each level, the candidates of a ground truth are the ``topk`` anchors whose centers are
       nearest to its center.
    2. Its threshold is the mean plus the (unbiased) standard deviation of their IoUs with it.
    3. It claims the candidates that reach the threshold and whose center is inside it by more than
       0.01 px.
    4. An anchor that several ground truths claim goes to the highest IoU.

    With a single candidate in total the standard deviation is taken as 0; the reference's is NaN,
    which assigns nothing.

    Args:
        topk: candidates per ground truth and level.
        chunk_size: ground truths processed together; see :class:`TaskAlignedAssigner`.

    Raises:
        ValueError: ``topk`` or ``chunk_size`` is below 1.
    """

    config_node = "ASSIGNERS.ATSS"

    def __init__(self, topk: int = 9, chunk_size: int | None = None) -> None:
        validate_counts(topk, chunk_size)
        self.topk, self.chunk_size = topk, chunk_size

    def assign(self, inputs: AssignerInput, gt_boxes: Tensor, gt_classes: Tensor) -> Assignment:
        """See :meth:`Assigner.assign`; reads anchors, centers and level sizes.

        Raises:
            ValueError: the shapes do not fit together.
        """
        validate_ground_truth(gt_boxes, gt_classes)
        anchors, num_anchors_per_level = inputs.anchors, inputs.num_anchors_per_level
        if anchors.shape != (sum(num_anchors_per_level), 4):
            raise ValueError(
                f"anchors must have the shape (R, 4) with R = {sum(num_anchors_per_level)}, the "
                f"sum of num_anchors_per_level, not {tuple(anchors.shape)}"
            )
        if len(gt_boxes) == 0:
            return Assignment(unmatched(len(anchors), anchors.device))
        anchors, centers, boxes = anchors.float(), inputs.centers.float(), gt_boxes.float()
        idxs = self._nearest_anchors(centers, num_anchors_per_level, box_centers(boxes))
        ious = box_iou(anchors[idxs], boxes[:, None])
        spread = ious.std(1, keepdim=True) if idxs.shape[1] > 1 else torch.zeros_like(ious)
        inside = points_inside_boxes(centers[idxs], boxes[:, None])
        keep = inside & (ious >= ious.mean(1, keepdim=True) + spread)
        return Assignment(resolve_conflicts(idxs, ious, keep, len(anchors)))

    def _nearest_anchors(
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
