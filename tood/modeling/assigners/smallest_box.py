"""Base class of rules in which each GT box claims points independently.

Shapes: **R** points over all levels, **M** ground truths of one image, **m** of them in a chunk.
"""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from ..box_ops import box_area
from ..structures import AssignerInput, Assignment
from .base import Assigner, default_chunk_size, unmatched, validate_ground_truth


class SmallestBoxAssigner(Assigner):
    """Each GT box claims points independently, and the smallest box wins conflicts.

    FCOS and FoveaBox work like this; predictions are not read.
    """

    chunk_size: int | None = None

    def assign(self, inputs: AssignerInput, gt_boxes: Tensor, gt_classes: Tensor) -> Assignment:
        """See :meth:`Assigner.assign`.

        Raises:
            ValueError: the shapes, or the arguments per level, do not fit the input.
        """
        validate_ground_truth(gt_boxes, gt_classes)
        self.validate_num_levels(len(inputs.num_anchors_per_level))
        centers = inputs.centers
        smallest = centers.new_full((len(centers),), torch.inf)
        matched_idxs = unmatched(len(centers), centers.device)
        start = 0
        for boxes in gt_boxes.split(default_chunk_size(self.chunk_size, centers.device)):
            claimed = self.candidate_mask(inputs, boxes)
            areas = torch.where(claimed, box_area(boxes)[:, None], torch.inf)
            if len(boxes):
                area, idx = areas.min(0)  # the first of equal areas
                matched_idxs = torch.where(area < smallest, idx + start, matched_idxs)
                smallest = torch.minimum(area, smallest)
            start += len(boxes)
        return Assignment(matched_idxs)

    @abstractmethod
    def validate_num_levels(self, num_levels: int) -> None:
        """Raise a ValueError if the constructor's arguments are for another number of levels."""

    @abstractmethod
    def candidate_mask(self, inputs: AssignerInput, gt_boxes: Tensor) -> Tensor:
        """Which points each of the boxes (m, 4) claims: (m, R) bool."""


def per_point(values: Sequence[float], inputs: AssignerInput) -> Tensor:
    """Spread one value per level over its points: (R,)."""
    levels = zip(values, inputs.num_anchors_per_level, strict=True)
    return torch.cat([inputs.centers.new_full((count,), value) for value, count in levels])
