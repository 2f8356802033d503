"""FoveaBox's rule."""

from collections.abc import Sequence

from torch import Tensor

from ..box_ops import box_area, box_centers
from ..structures import AssignerInput
from .base import ASSIGNER_REGISTRY
from .smallest_box import SmallestBoxAssigner, _per_point


@ASSIGNER_REGISTRY.register()
class FoveaBoxAssigner(SmallestBoxAssigner):
    """FoveaBox's rule (Kong et al., TIP 2020).

    A point belongs to a box if it lies in the box's middle part, and if the box's size is one that
    its level is responsible for; neighboring levels share sizes.

    Args:
        sigma: sides of the middle part, as a share of the box's.
        scale_ranges: for each level the smallest and the largest square root of a box's area, in
            pixels, both inclusive.
        chunk_size: ground truths that are looked at together.
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
        """One range a level."""
        if len(self.scale_ranges) != num_levels:
            raise ValueError(
                f"MODEL.TOOD.ASSIGNERS.FOVEABOX.SCALE_RANGES has {len(self.scale_ranges)} pairs for "
                f"{num_levels} levels"
            )

    def candidate_mask(self, samples: AssignerInput, gt_boxes: Tensor) -> Tensor:
        """See the class."""
        smallest, largest = zip(*self.scale_ranges, strict=True)
        size = box_area(gt_boxes).sqrt()[:, None]
        fits = (size >= _per_point(smallest, samples)) & (size <= _per_point(largest, samples))
        half = (gt_boxes[:, 2:] - gt_boxes[:, :2]) / 2 * self.sigma
        away = (samples.points - box_centers(gt_boxes)[:, None]).abs()
        return fits & (away <= half[:, None]).all(-1)
