"""The health of the assignment: how many positives ground truths get, by size."""

import torch
from torch import Tensor

# COCO's size classes, by the area of the box in the original image: below 32^2 pixels, from there
# to below 96^2, and above.
SIZE_BOUNDS = (32.0**2, 96.0**2)
SIZE_NAMES = ("small", "medium", "large")


class AssignmentStatistics:
    """Adds up assignments on their own device and tells of them now and then.

    Adding waits for nothing; only :meth:`compute_and_reset` reads the numbers back.
    """

    def __init__(self) -> None:
        # Per size class: ground truths, those without a positive, positives.
        self._counts: Tensor | None = None

    def update(self, matched_idxs: Tensor, gt_areas: Tensor) -> None:
        """Add one image.

        Args:
            matched_idxs: (R,) int64, the ground truth of each point, -1 for background.
            gt_areas: (M,) areas of the ground truths in pixels of the original image.
        """
        num_gts = len(gt_areas)
        per_gt = gt_areas.new_zeros(num_gts + 1)
        per_gt = per_gt.scatter_add(
            0, matched_idxs + 1, per_gt.new_ones(()).expand(len(matched_idxs))
        )[1:]
        sizes = torch.bucketize(gt_areas, gt_areas.new_tensor(SIZE_BOUNDS), right=True)
        rows = torch.stack([torch.ones_like(per_gt), (per_gt == 0).to(per_gt), per_gt], dim=1)
        counts = rows.new_zeros(len(SIZE_NAMES), 3).index_add(0, sizes, rows)
        self._counts = counts if self._counts is None else self._counts + counts

    def compute_and_reset(self) -> dict[str, float]:
        """The means since the last call, by name; sizes that did not occur are left out.

        Returns:
            ``pos_per_gt`` (mean number of positives of a ground truth) and ``gt_without_pos_frac``
            (share of ground truths without any, 0 to 1), each for all and with the suffixes
            ``_small``, ``_medium``, ``_large``.
        """
        if self._counts is None:
            return {}
        counts = self._counts.tolist()
        self._counts = None
        rows = {f"_{name}": row for name, row in zip(SIZE_NAMES, counts, strict=True)}
        rows[""] = [sum(column) for column in zip(*counts, strict=True)]
        means = {}
        for suffix, (gts, without, positives) in rows.items():
            if gts:
                means[f"pos_per_gt{suffix}"] = positives / gts
                means[f"gt_without_pos_frac{suffix}"] = without / gts
        return means
