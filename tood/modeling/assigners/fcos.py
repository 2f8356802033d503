"""FCOS's assignment rule, which the paper compares task alignment learning with."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..box_ops import box_centers, boxes_to_distances
from ..structures import AssignerInput
from .base import ASSIGNER_REGISTRY
from .smallest_box import SmallestBoxAssigner, per_point


@ASSIGNER_REGISTRY.register()
class FCOSAssigner(SmallestBoxAssigner):
    """FCOS's rule (Tian et al., ICCV 2019), with the center sampling of its later version.

    A point belongs to a box if it lies inside its center region, and if the largest of its
    distances to the four sides is in the range of the point's level. Of several boxes the smallest
    wins.

    Args:
        center_sampling_radius: half the side of the square around the box's center that points
            must lie in, in strides of the level; 0 for the whole box, as in the first version.
        sizes_of_interest: upper limits of the largest distance, in pixels, for all levels but the
            last; each is also the lower limit of the next level.
        chunk_size: ground truths processed together.

    Raises:
        ValueError: ``center_sampling_radius`` is negative.
    """

    config_node = "ASSIGNERS.FCOS"

    def __init__(
        self,
        center_sampling_radius: float = 1.5,
        sizes_of_interest: Sequence[float] = (64, 128, 256, 512),
        chunk_size: int | None = None,
    ) -> None:
        if center_sampling_radius < 0:
            raise ValueError(
                f"center_sampling_radius must not be negative, not {center_sampling_radius}; 0 is "
                "the whole box"
            )
        self.center_sampling_radius = center_sampling_radius
        self.sizes_of_interest = list(sizes_of_interest)
        self.chunk_size = chunk_size

    def validate_num_levels(self, num_levels: int) -> None:
        """Check that there is one limit between every two levels."""
        if len(self.sizes_of_interest) + 1 != num_levels:
            raise ValueError(
                f"sizes_of_interest has {len(self.sizes_of_interest)} limits, but "
                f"{num_levels} levels need {num_levels - 1}"
            )

    def candidate_mask(self, inputs: AssignerInput, gt_boxes: Tensor) -> Tensor:
        """Which points each of the boxes (m, 4) claims: (m, R) bool."""
        distances = boxes_to_distances(inputs.centers, gt_boxes[:, None])  # (m, R, 4)
        largest = distances.amax(-1)
        lower = per_point([0.0, *self.sizes_of_interest], inputs)
        upper = per_point([*self.sizes_of_interest, torch.inf], inputs)
        if self.center_sampling_radius:
            center = box_centers(gt_boxes)[:, None]
            radius = inputs.strides[:, None] * self.center_sampling_radius
            low = torch.maximum(center - radius, gt_boxes[:, None, :2])
            high = torch.minimum(center + radius, gt_boxes[:, None, 2:])
            distances = torch.cat([inputs.centers - low, high - inputs.centers], dim=-1)
        return (distances.amin(-1) > 0) & (largest >= lower) & (largest <= upper)
