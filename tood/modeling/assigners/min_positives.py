"""A minimum of positives for every ground truth: an option for tiny objects, off by default.

Shapes: **R** points over all levels, **M** ground truths of one image.
"""

import torch
from torch import Tensor

from ..box_ops import box_centers
from ..structures import UNMATCHED
from .base import resolve_conflicts

# Points that a ground truth can be given, beyond as many as it needs; and how often those that lost
# a point to another ground truth may ask for the next.
EXTRA_CANDIDATES = 16
MAX_ROUNDS = 8


def nearest_unassigned_points(
    points: Tensor, taken: Tensor, gt_boxes: Tensor, count: int, chunk: int
) -> Tensor:
    """The points nearest to the centers of boxes that no ground truth has, nearest first.

    Args:
        points: (R, 2) pixels, the finest level first.
        taken: (R,) bool, points that are left out as long as there are others.
        gt_boxes: (M, 4) pixels.
        count: how many for each box, at most R.
        chunk: boxes that are looked at together.

    Returns:
        (M, count) int64. Of points at one place, those of finer levels come first.
    """
    count = min(count, len(points))
    # Squared pixels, in float64: what is added decides between points at one place alone.
    order = torch.arange(len(points), device=points.device) * 1e-9
    last = torch.where(taken, torch.inf, order)
    found = []
    for centers in box_centers(gt_boxes).double().split(chunk):
        distances = (centers[:, None] - points.double()).square().sum(-1) + last
        found.append(distances.topk(count, dim=1, largest=False).indices)
    return torch.cat(found)


def assign_min_positives(matched_idxs: Tensor, nearest: Tensor, minimum: int) -> Tensor:
    """Give points that nobody has to those ground truths that have too few.

    Args:
        matched_idxs: (R,) the ground truth of each point, -1 for none.
        nearest: (M, k) points that each ground truth can be given, best first.
        minimum: how many a ground truth is to have.

    Returns:
        (R,) the ground truth that the point is given to, -1 for none. A point that several could
        be given goes to the one to which it is nearest in rank, and the others ask for their next;
        only where more ground truths crowd than there are points, some are left with fewer.
    """
    num_gts, k = nearest.shape
    rank = torch.arange(k, device=nearest.device, dtype=torch.float32)
    closeness = (1 / (1 + rank)).expand(num_gts, -1)
    owner = matched_idxs
    for _ in range(MAX_ROUNDS):
        has_owner = (owner >= 0).to(owner.dtype)
        counts = owner.new_zeros(num_gts).scatter_add(0, owner.clamp(min=0), has_owner)
        free = owner[nearest] < 0
        asks = free & (free.cumsum(1) <= (minimum - counts)[:, None])
        given = resolve_conflicts(nearest, closeness, asks, len(owner))
        owner = torch.where(given >= 0, given, owner)
    return torch.where(matched_idxs >= 0, UNMATCHED, owner)
