"""A minimum of positives for every ground truth: an option for tiny objects, off by default.

Shapes: **R** points over all levels, **M** ground truths of one image.
"""

import torch
from torch import Tensor

from ..box_ops import box_centers
from .base import resolve_conflicts


def nearest_points(points: Tensor, gt_boxes: Tensor, count: int, chunk: int) -> Tensor:
    """The points nearest to the centres of boxes, nearest first.

    Args:
        points: (R, 2) pixels.
        gt_boxes: (M, 4) pixels.
        count: how many for each box, at most R.
        chunk: boxes that are looked at together.

    Returns:
        (M, count) int64.
    """
    count = min(count, len(points))
    return torch.cat(
        [
            (centers[:, None] - points).square().sum(-1).topk(count, dim=1, largest=False).indices
            for centers in box_centers(gt_boxes).split(chunk)
        ]
    )


def give_to_poor(matched_idxs: Tensor, nearest: Tensor, minimum: int) -> Tensor:
    """Give points to those ground truths that have too few.

    Args:
        matched_idxs: (R,) the ground truth of each point, -1 for none.
        nearest: (M, k) points that each ground truth can be given, best first.
        minimum: those with fewer points are given all of ``nearest``.

    Returns:
        (R,) the ground truth that the point is given to, -1 for none. A point that several could
        be given goes to the one to which it is nearest in rank.
    """
    num_gts, k = nearest.shape
    matched = matched_idxs >= 0
    counts = matched_idxs.new_zeros(num_gts)
    counts = counts.scatter_add(0, matched_idxs.clamp(min=0), matched.to(counts.dtype))
    poor = (counts < minimum)[:, None].expand(-1, k)
    rank = torch.arange(k, device=nearest.device, dtype=torch.float32)
    return resolve_conflicts(nearest, (1 / (1 + rank)).expand(num_gts, -1), poor, len(matched_idxs))
