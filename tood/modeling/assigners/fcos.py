"""FCOS's rule."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..box_ops import box_centers, boxes_to_distances
from ..structures import AssignerInput
from .base import ASSIGNER_REGISTRY
from .smallest_box import SmallestBoxAssigner, _per_point


@ASSIGNER_REGISTRY.register()
class FCOSAssigner(SmallestBoxAssigner):
    """FCOS's rule (Tian et al., ICCV 2019), with the center sampling of its later version.

    A point belongs to a box if it lies inside (of the middle part), and if the largest of its
    distances to the four sides is one that its level is responsible for.

    Args:
        center_sampling_radius: half a side of the square around the box's center that points must lie in,
            in strides of the level; 0 for the whole box, as in the first version.
        sizes_of_interest: upper limits of the largest distance, in pixels, of all levels but the
            last; each is also the lower limit of the next level.
        chunk_size: ground truths that are looked at together.
    """

    config_node = "ASSIGNERS.FCOS"

    def __init__(
        self,
        center_sampling_radius: float = 1.5,
        sizes_of_interest: Sequence[float] = (64, 128, 256, 512),
        chunk_size: int | None = None,
    ) -> None:
        self.center_sampling_radius, self.sizes_of_interest = (
            center_sampling_radius,
            list(sizes_of_interest),
        )
        self.chunk_size = chunk_size

    def validate_num_levels(self, num_levels: int) -> None:
        """One limit less than levels."""
        if len(self.sizes_of_interest) + 1 != num_levels:
            raise ValueError(
                f"MODEL.TOOD.ASSIGNERS.FCOS.SIZES_OF_INTEREST has {len(self.sizes_of_interest)} limits, and "
                f"{num_levels} levels have {num_levels - 1} between them"
            )

    def candidate_mask(self, samples: AssignerInput, gt_boxes: Tensor) -> Tensor:
        """See the class."""
        sides = boxes_to_distances(samples.points, gt_boxes[:, None])
        largest = sides.amax(-1)
        lower = _per_point([-1.0, *self.sizes_of_interest], samples)
        upper = _per_point([*self.sizes_of_interest, torch.inf], samples)
        part = sides
        if self.center_sampling_radius > 0:
            center, radius = (
                box_centers(gt_boxes),
                samples.strides[:, None] * self.center_sampling_radius,
            )
            low = torch.maximum(center[:, None] - radius, gt_boxes[:, None, :2])
            high = torch.minimum(center[:, None] + radius, gt_boxes[:, None, 2:])
            part = torch.cat([samples.points - low, high - samples.points], dim=-1)
        return (part.amin(-1) > 0) & (largest >= lower) & (largest <= upper)
