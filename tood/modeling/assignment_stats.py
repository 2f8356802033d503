"""Statistics of the assignment: how many positives the ground truths get, by size."""

import torch
from torch import Tensor

# COCO's size classes by area in the original image: below 32^2, below 96^2, and 96^2 or more.
SIZE_BOUNDS = (32.0**2, 96.0**2)
SIZE_NAMES = ("small", "medium", "large")


class AssignmentStatistics:
    """Accumulates assignment statistics on the device.

    Only :meth:`compute_and_reset` synchronizes.
    """

    def __init__(self) -> None:
        # Per size class: ground truths, ground truths without a positive, positives.
        self._counts: Tensor | None = None

    def update(self, matched_idxs: Tensor, gt_areas: Tensor) -> None:
        """Add one image.

        Args:
            matched_idxs: (R,) int64, the ground truth of each point; negative for none.
            gt_areas: (M,) areas of the ground truths in pixels of the original image.
        """
        per_gt = gt_areas.new_zeros(len(gt_areas) + 1)
        rows = matched_idxs.clamp(min=-1) + 1  # row 0 collects the points without ground truth
        per_gt = per_gt.scatter_add(0, rows, per_gt.new_ones(()).expand(len(rows)))[1:]
        # Not bucketize: copying the bounds from the host would synchronize.
        sizes = sum((gt_areas >= bound).long() for bound in SIZE_BOUNDS)
        counts = torch.stack([torch.ones_like(per_gt), (per_gt == 0).to(per_gt), per_gt], dim=1)
        counts = counts.new_zeros(len(SIZE_NAMES), 3).index_add(0, sizes, counts)
        self._counts = counts if self._counts is None else self._counts.to(counts) + counts

    def state_dict(self) -> dict[str, list[list[float]]]:
        """Return what was accumulated since the last `compute_and_reset`, for a checkpoint."""
        return {"counts": [] if self._counts is None else self._counts.tolist()}

    def load_state_dict(self, state: dict[str, list[list[float]]]) -> None:
        """Continue with what `state_dict` returned."""
        self._counts = torch.tensor(state["counts"]) if state["counts"] else None

    def compute_and_reset(self) -> dict[str, float]:
        """Means since the last call, by name; sizes that did not occur are left out.

        Returns:
            ``pos_per_gt`` (mean number of positives per ground truth) and ``gt_without_pos_frac``
            (fraction of ground truths with none), each over all ground truths and with the
            suffixes ``_small``, ``_medium`` and ``_large``.
        """
        if self._counts is None:
            return {}
        counts = self._counts.tolist()
        self._counts = None
        rows = {f"_{name}": row for name, row in zip(SIZE_NAMES, counts, strict=True)}
        rows[""] = [sum(column) for column in zip(*counts, strict=True)]
        means = {}
        for suffix, (num_gts, num_without, num_positives) in rows.items():
            if num_gts:
                means[f"pos_per_gt{suffix}"] = num_positives / num_gts
                means[f"gt_without_pos_frac{suffix}"] = num_without / num_gts
        return means
