"""What all assigners share: the registry, the base class and conflict resolution.

Shapes: **R** points over all levels, **M** ground truths of one image, **K** classes, **k**
candidates of one ground truth. Boxes (x1, y1, x2, y2) and points (x, y) in image pixels.
"""

from abc import ABC, abstractmethod

import torch
from detectron2.utils.registry import Registry
from torch import Tensor

from ..structures import UNMATCHED, AssignerInput, Assignment

ASSIGNER_REGISTRY = Registry("ASSIGNER")
ASSIGNER_REGISTRY.__doc__ = """
Assigners decide which points of an image are positive, and for which ground truth. Entries are
subclasses of :class:`Assigner`, chosen by name in the config.
"""


class Assigner(ABC):
    """Base class of assigners.

    To add your own, register a subclass with ``@ASSIGNER_REGISTRY.register()`` and name it in the
    config. Its constructor gets the keys of the config node that ``config_node`` names, in lower
    case, as keyword arguments.

    Attributes:
        config_node: dotted path, below TOOD's config node, of the node with the constructor's
            arguments; None if there are none.
        returns_alignment_metrics: whether :meth:`assign` returns both alignment metrics, which the
            losses of task alignment learning need.
    """

    config_node: str | None = None
    returns_alignment_metrics: bool = False

    @abstractmethod
    def assign(self, inputs: AssignerInput, gt_boxes: Tensor, gt_classes: Tensor) -> Assignment:
        """Match the points of one image to its ground truths.

        Args:
            inputs: the points, on one device, in float32, without gradients.
            gt_boxes: (M, 4) pixels; M may be 0.
            gt_classes: (M,) int64 in [0, K).

        Returns:
            The ground truth of each point: its index, -1 for background, -2 for ignored.

        Raises:
            ValueError: the shapes do not fit together.
        """


def validate_counts(topk: int, chunk_size: int | None) -> None:
    """Raise a ValueError if ``topk`` or ``chunk_size`` is below 1."""
    if topk < 1 or (chunk_size is not None and chunk_size < 1):
        raise ValueError(f"topk and chunk_size must be at least 1, not {topk} and {chunk_size}")


def default_chunk_size(chunk_size: int | None, device: torch.device) -> int:
    """How many ground truths to process together: ``chunk_size`` if given, else by device.

    On a CPU the temporaries of 16 ground truths stay in the cache.
    """
    return chunk_size or (16 if device.type == "cpu" else 64)


def validate_ground_truth(gt_boxes: Tensor, gt_classes: Tensor) -> None:
    """Raise a ValueError if the shapes of one image's ground truth are wrong."""
    if gt_boxes.ndim != 2 or gt_boxes.shape[1] != 4:
        raise ValueError(f"gt_boxes must have the shape (M, 4), not {tuple(gt_boxes.shape)}")
    if gt_classes.shape != gt_boxes.shape[:1]:
        raise ValueError(
            f"gt_classes must have the shape (M,) = ({len(gt_boxes)},), "
            f"not {tuple(gt_classes.shape)}"
        )


def unmatched(num_points: int, device: torch.device) -> Tensor:
    """``matched_idxs`` (R,) of an image in which every point is background."""
    return torch.full((num_points,), UNMATCHED, device=device)


def resolve_conflicts(
    candidate_idxs: Tensor, candidate_ious: Tensor, keep: Tensor, num_points: int
) -> Tensor:
    """Give each point that several ground truths claim to the one with the highest IoU.

    Only ground truths that claim the point compete; of equal IoUs the first ground truth wins.

    Args:
        candidate_idxs: (M, k) int64, the points that each ground truth considers.
        candidate_ious: (M, k) IoUs that decide.
        keep: (M, k) bool, which of its candidates the ground truth claims.
        num_points: R.

    Returns:
        (R,) int64, the ground truth of each point, -1 if none claims it.
    """
    num_gts, k = candidate_idxs.shape
    idxs = candidate_idxs.flatten()
    ious = torch.where(keep, candidate_ious, -1.0).flatten()
    best_ious = ious.new_full((num_points,), -1.0).scatter_reduce(0, idxs, ious, "amax")
    wins = keep.flatten() & (ious == best_ious[idxs])
    gt_idxs = torch.arange(num_gts, device=idxs.device).repeat_interleave(k)
    gt_idxs = torch.where(wins, gt_idxs, num_gts)
    first = idxs.new_full((num_points,), num_gts).scatter_reduce(0, idxs, gt_idxs, "amin")
    return torch.where(first == num_gts, UNMATCHED, first)
