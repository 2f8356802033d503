"""A minimum number of positives for every ground truth: an option for tiny objects.

Shapes: **R** points over all levels, **M** ground truths of one image.
"""

import torch
from torch import Tensor

from ..box_ops import box_centers
from ..structures import UNMATCHED
from .base import resolve_conflicts

# Extra candidates per ground truth, and the maximum number of rounds in which ground truths that
# lost a candidate try the next one.
EXTRA_CANDIDATES = 16
MAX_ROUNDS = 8


def nearest_unassigned_points(
    points: Tensor, assigned: Tensor, gt_boxes: Tensor, count: int, chunk: int
) -> Tensor:
    """Find the unassigned points nearest to the centers of boxes.

    Args:
        points: (R, 2) pixels, the finest level first.
        assigned: (R,) bool; assigned points come last, after all others.
        gt_boxes: (M, 4) pixels.
        count: points per box, at most R.
        chunk: boxes processed together.

    Returns:
        (M, count) int64, nearest first. Of points at the same place, finer levels come first.
    """
    count = min(count, len(points))
    # Squared pixels in float64: the added term only decides between points at the same place.
    order = torch.arange(len(points), device=points.device) * 1e-9
    penalty = torch.where(assigned, torch.inf, order)
    found = []
    for centers in box_centers(gt_boxes).double().split(chunk):
        distances = (centers[:, None] - points.double()).square().sum(-1) + penalty
        found.append(distances.topk(count, dim=1, largest=False).indices)
    return torch.cat(found)


def assign_min_positives(matched_idxs: Tensor, nearest: Tensor, minimum: int) -> Tensor:
    """Give unassigned points to the ground truths that have fewer than ``minimum``.

    Args:
        matched_idxs: (R,) the ground truth of each point, -1 for none.
        nearest: (M, k) points in the order in which each ground truth asks for them.
        minimum: positives that each ground truth should have.

    Returns:
        (R,) the ground truth that the point is given to, -1 for none. A point that several ask for
        goes to the one that ranks it highest, and the others ask for their next. A ground truth
        keeps fewer than ``minimum`` if all its k candidates, or :data:`MAX_ROUNDS` rounds, are used
        up: only in dense crowds of boxes at one place.
    """
    num_gts, k = nearest.shape
    # Largest for the point that a ground truth asks for first.
    priority = torch.arange(k, 0, -1, device=nearest.device, dtype=torch.float32)
    priority = priority.expand(num_gts, k)
    owner = matched_idxs
    for _ in range(MAX_ROUNDS):
        has_owner = (owner >= 0).to(owner.dtype)
        counts = owner.new_zeros(num_gts).scatter_add(0, owner.clamp(min=0), has_owner)
        free = owner[nearest] < 0
        asks = free & (free.cumsum(1) <= (minimum - counts)[:, None])
        given = resolve_conflicts(nearest, priority, asks, len(owner))
        owner = torch.where(given >= 0, given, owner)
    return torch.where(matched_idxs >= 0, UNMATCHED, owner)
