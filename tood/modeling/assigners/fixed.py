"""The fixed rules of earlier detectors: FCOS, FoveaBox, and RetinaNet's IoU thresholds.

What the paper compares task alignment learning with (Tables 1 and 2). None of them looks at
predictions.
"""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from ..box_ops import box_area, box_centers, box_iou, boxes_to_distances
from .base import (
    ASSIGNER_REGISTRY,
    IGNORED,
    UNMATCHED,
    Assigner,
    Assignment,
    ImageSamples,
    check_ground_truth,
    chunk_of,
    classes_of_matches,
)


class _SmallestBoxAssigner(Assigner):
    """Rules by which boxes claim points, each on its own, and the smallest box wins a point."""

    chunk_size: int | None = None

    @torch.no_grad()
    def assign(self, samples: ImageSamples, gt_boxes: Tensor, gt_classes: Tensor) -> Assignment:
        """See :meth:`Assigner.assign`."""
        num_classes = samples.pred_scores.shape[1]
        check_ground_truth(gt_boxes, gt_classes, num_classes)
        points = samples.points
        self.check_levels(len(samples.num_anchors_per_level))
        smallest = points.new_full((len(points),), torch.inf)
        matched_idxs = torch.full((len(points),), UNMATCHED, device=points.device)
        start = 0
        for boxes in gt_boxes.split(chunk_of(self.chunk_size, points.device)):
            claims = self.claims(samples, boxes)
            areas = torch.where(claims, box_area(boxes)[:, None], torch.inf)
            if len(boxes):
                area, idx = areas.min(0)  # of equal areas the first
                matched_idxs = torch.where(area < smallest, idx + start, matched_idxs)
                smallest = torch.minimum(area, smallest)
            start += len(boxes)
        return Assignment(matched_idxs, classes_of_matches(matched_idxs, gt_classes, num_classes))

    @abstractmethod
    def check_levels(self, num_levels: int) -> None:
        """Raise a ValueError where the constructor's numbers do not fit the levels."""

    @abstractmethod
    def claims(self, samples: ImageSamples, gt_boxes: Tensor) -> Tensor:
        """Whether each of some boxes (m, 4) claims each point: (m, R) bool."""


def _per_point(values: Sequence[float], samples: ImageSamples) -> Tensor:
    """(R,) the value of each point's level."""
    counts = torch.tensor(samples.num_anchors_per_level, device=samples.points.device)
    num_points = len(samples.points)
    values = samples.points.new_tensor(values)
    return values.repeat_interleave(counts, output_size=num_points)


@ASSIGNER_REGISTRY.register()
class FCOSAssigner(_SmallestBoxAssigner):
    """FCOS's rule (Tian et al., ICCV 2019), with the centre sampling of its later version.

    A point belongs to a box if it lies inside (of the middle part), and if the largest of its
    distances to the four sides is one that its level is responsible for.

    Args:
        center_radius: half a side of the square around the box's centre that points must lie in,
            in strides of the level; 0 for the whole box, as in the first version.
        sizes_of_interest: upper limits of the largest distance, in pixels, of all levels but the
            last; each is also the lower limit of the next level.
        chunk_size: ground truths that are looked at together.
    """

    config_node = "FCOS"

    def __init__(
        self,
        center_radius: float = 1.5,
        sizes_of_interest: Sequence[float] = (64, 128, 256, 512),
        chunk_size: int | None = None,
    ) -> None:
        self.center_radius, self.sizes_of_interest = center_radius, list(sizes_of_interest)
        self.chunk_size = chunk_size

    def check_levels(self, num_levels: int) -> None:
        """One limit less than levels."""
        if len(self.sizes_of_interest) + 1 != num_levels:
            raise ValueError(
                f"MODEL.TOOD.FCOS.SIZES_OF_INTEREST has {len(self.sizes_of_interest)} limits, and "
                f"{num_levels} levels have {num_levels - 1} between them"
            )

    def claims(self, samples: ImageSamples, gt_boxes: Tensor) -> Tensor:
        """See the class."""
        sides = boxes_to_distances(samples.points, gt_boxes[:, None])
        largest = sides.amax(-1)
        lower = _per_point([-1.0, *self.sizes_of_interest], samples)
        upper = _per_point([*self.sizes_of_interest, torch.inf], samples)
        part = sides
        if self.center_radius > 0:
            center, radius = box_centers(gt_boxes), samples.strides[:, None] * self.center_radius
            low = torch.maximum(center[:, None] - radius, gt_boxes[:, None, :2])
            high = torch.minimum(center[:, None] + radius, gt_boxes[:, None, 2:])
            part = torch.cat([samples.points - low, high - samples.points], dim=-1)
        return (part.amin(-1) > 0) & (largest >= lower) & (largest <= upper)


@ASSIGNER_REGISTRY.register()
class FoveaBoxAssigner(_SmallestBoxAssigner):
    """FoveaBox's rule (Kong et al., TIP 2020).

    A point belongs to a box if it lies in the box's middle part, and if the box's size is one that
    its level is responsible for; neighbouring levels share sizes.

    Args:
        sigma: sides of the middle part, as a share of the box's.
        scale_ranges: for each level the smallest and the largest square root of a box's area, in
            pixels, both inclusive.
        chunk_size: ground truths that are looked at together.
    """

    config_node = "FOVEABOX"

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

    def check_levels(self, num_levels: int) -> None:
        """One range a level."""
        if len(self.scale_ranges) != num_levels:
            raise ValueError(
                f"MODEL.TOOD.FOVEABOX.SCALE_RANGES has {len(self.scale_ranges)} pairs for "
                f"{num_levels} levels"
            )

    def claims(self, samples: ImageSamples, gt_boxes: Tensor) -> Tensor:
        """See the class."""
        smallest, largest = zip(*self.scale_ranges, strict=True)
        size = box_area(gt_boxes).sqrt()[:, None]
        fits = (size >= _per_point(smallest, samples)) & (size <= _per_point(largest, samples))
        half = (gt_boxes[:, 2:] - gt_boxes[:, :2]) / 2 * self.sigma
        away = (samples.points - box_centers(gt_boxes)[:, None]).abs()
        return fits & (away <= half[:, None]).all(-1)


@ASSIGNER_REGISTRY.register()
class IoUAssigner(Assigner):
    """RetinaNet's rule (Lin et al., ICCV 2017), as detectron2's ``Matcher`` has it.

    An anchor belongs to the box that it overlaps most, if by the upper threshold or more; it is
    background below the lower one, and takes part in no loss in between. The anchors that overlap
    some box more than all others do, by however little, belong to the box that they overlap most
    too (in MMDetection to that box).

    Args:
        negative_thresh: below it an anchor is background.
        positive_thresh: from it on an anchor is positive.

    Raises:
        ValueError: thresholds that are not in order.
    """

    config_node = "IOU"

    def __init__(self, negative_thresh: float = 0.4, positive_thresh: float = 0.5) -> None:
        if not 0 < negative_thresh <= positive_thresh <= 1:
            raise ValueError(
                f"negative_thresh ({negative_thresh}) and positive_thresh ({positive_thresh}) must "
                "be in order, above 0 and at most 1"
            )
        self.negative_thresh, self.positive_thresh = negative_thresh, positive_thresh

    @torch.no_grad()
    def assign(self, samples: ImageSamples, gt_boxes: Tensor, gt_classes: Tensor) -> Assignment:
        """See :meth:`Assigner.assign`."""
        num_classes = samples.pred_scores.shape[1]
        check_ground_truth(gt_boxes, gt_classes, num_classes)
        if len(gt_boxes) == 0 or len(samples.anchors) == 0:
            matched_idxs = torch.full_like(samples.strides, UNMATCHED, dtype=torch.int64)
            return Assignment(matched_idxs, torch.full_like(matched_idxs, num_classes))
        ious = box_iou(gt_boxes[:, None], samples.anchors)
        most, matched_idxs = ious.max(0)
        # Without the second condition, a box that overlaps no anchor would have all of them.
        is_best = ((ious == ious.amax(1, keepdim=True)) & (ious > 0)).any(0)
        positive = is_best | (most >= self.positive_thresh)
        matched_idxs = torch.where(positive, matched_idxs, UNMATCHED)
        classes = classes_of_matches(matched_idxs, gt_classes, num_classes)
        between = ~positive & (most >= self.negative_thresh)
        return Assignment(matched_idxs, torch.where(between, IGNORED, classes))
