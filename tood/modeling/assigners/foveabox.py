"""FoveaBox's assignment rule, which the paper compares task alignment learning with."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..box_ops import box_area, box_centers
from ..structures import AssignerInput
from .base import ASSIGNER_REGISTRY
from .smallest_box import SmallestBoxAssigner, per_point


@ASSIGNER_REGISTRY.register()
class FoveaBoxAssigner(SmallestBoxAssigner):
    """FoveaBox's rule (Kong et al., TIP 2020).

    A point belongs to a box if it lies in the box's central part, and if the box's size is in the
    range of the point's level; neighboring levels share sizes. Of several boxes the smallest wins.
    A central part beyond the outermost row or column of points is moved onto it, as in the
    authors' code and MMDetection's, which clamp its cells to the map. Here this does not hold for
    boxes that lie outside of the map as a whole, which get no points.

    Args:
        sigma: side of the central part as a fraction of the box's side.
        scale_ranges: for each level the minimum and maximum square root of a box's area, in pixels,
            both inclusive.
        chunk_size: ground truths processed together.
    """

    config_node = "ASSIGNERS.FOVEABOX"

    def __init__(
        self,
        sigma: float = 0.4,
        scale_ranges: Sequence[Sequence[float]] = (
            (1, 64),
            (32, 128),
            (64, 256),
            (128, 512),
            (256, 2048),
        ),
        chunk_size: int | None = None,
    ) -> None:
        self.sigma, self.scale_ranges = sigma, [tuple(pair) for pair in scale_ranges]
        self.chunk_size = chunk_size

    def validate_num_levels(self, num_levels: int) -> None:
        """Check that there is one range per level."""
        if len(self.scale_ranges) != num_levels:
            raise ValueError(
                f"scale_ranges has {len(self.scale_ranges)} pairs, but {num_levels} levels need "
                "one each"
            )

    def candidate_mask(self, inputs: AssignerInput, gt_boxes: Tensor) -> Tensor:
        """Which points each of the boxes (m, 4) claims: (m, R) bool."""
        smallest, largest = zip(*self.scale_ranges, strict=True)
        size = box_area(gt_boxes).sqrt()[:, None]
        in_range = (size >= per_point(smallest, inputs)) & (size <= per_point(largest, inputs))
        half = (gt_boxes[:, 2:] - gt_boxes[:, :2])[:, None] / 2 * self.sigma  # (m, 1, 2)
        middle, cell = box_centers(gt_boxes)[:, None], inputs.strides[:, None] / 2
        first, last = _outermost_points(inputs)
        touches = (gt_boxes[:, None, 2:] > first - cell) & (gt_boxes[:, None, :2] < last + cell)
        after = inputs.centers >= torch.minimum(middle - half, last)
        before = inputs.centers <= torch.maximum(middle + half, first)
        return in_range & (touches & after & before).all(-1)


def _outermost_points(inputs: AssignerInput) -> tuple[Tensor, Tensor]:
    """For each point (R, 2) the smallest and the largest coordinates of its level."""
    counts = inputs.num_anchors_per_level
    extremes = [
        (level.amin(0, keepdim=True).expand(count, 2), level.amax(0, keepdim=True).expand(count, 2))
        for level, count in zip(inputs.centers.split(counts), counts, strict=True)
        if count
    ]
    first, last = zip(*extremes, strict=True)
    return torch.cat(first), torch.cat(last)
