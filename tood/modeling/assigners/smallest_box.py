"""Rules by which the smallest box wins a point."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from ..box_ops import box_area
from ..structures import UNMATCHED, AssignerInput, Assignment
from .base import Assigner, default_chunk_size, gather_gt_classes, validate_ground_truth


class SmallestBoxAssigner(Assigner):
    """Rules by which boxes claim points, each on its own, and the smallest box wins a point."""

    chunk_size: int | None = None

    @torch.no_grad()
    def assign(self, samples: AssignerInput, gt_boxes: Tensor, gt_classes: Tensor) -> Assignment:
        """See :meth:`Assigner.assign`."""
        num_classes = samples.pred_scores.shape[1]
        validate_ground_truth(gt_boxes, gt_classes, num_classes)
        points = samples.points
        self.validate_num_levels(len(samples.num_anchors_per_level))
        smallest = points.new_full((len(points),), torch.inf)
        matched_idxs = torch.full((len(points),), UNMATCHED, device=points.device)
        start = 0
        for boxes in gt_boxes.split(default_chunk_size(self.chunk_size, points.device)):
            claims = self.candidate_mask(samples, boxes)
            areas = torch.where(claims, box_area(boxes)[:, None], torch.inf)
            if len(boxes):
                area, idx = areas.min(0)  # of equal areas the first
                matched_idxs = torch.where(area < smallest, idx + start, matched_idxs)
                smallest = torch.minimum(area, smallest)
            start += len(boxes)
        return Assignment(matched_idxs, gather_gt_classes(matched_idxs, gt_classes, num_classes))

    @abstractmethod
    def validate_num_levels(self, num_levels: int) -> None:
        """Raise a ValueError where the constructor's numbers do not fit the levels."""

    @abstractmethod
    def candidate_mask(self, samples: AssignerInput, gt_boxes: Tensor) -> Tensor:
        """Whether each of some boxes (m, 4) claims each point: (m, R) bool."""


def _per_point(values: Sequence[float], samples: AssignerInput) -> Tensor:
    """(R,) the value of each point's level."""
    counts = torch.tensor(samples.num_anchors_per_level, device=samples.points.device)
    num_points = len(samples.points)
    values = samples.points.new_tensor(values)
    return values.repeat_interleave(counts, output_size=num_points)
