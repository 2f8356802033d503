"""Candidates of an image, and NMS in NumPy. Shapes: **D** candidates or detections."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .masks import Masks

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


class Candidates(NamedTuple):
    """Candidates or detections of one image.

    Attributes:
        boxes: (D, 4) float32, the corners x1, y1, x2, y2.
        scores: (D,) float32.
        classes: (D,) int64.
        masks: D masks of a model that predicts them, else None.
    """

    boxes: FloatArray
    scores: FloatArray
    classes: IntArray
    masks: Masks | None = None

    def take(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> "Candidates":
        """The rows that an array of indices or a mask selects."""
        masks = None if self.masks is None else self.masks[rows]
        return Candidates(self.boxes[rows], self.scores[rows], self.classes[rows], masks)


def concatenate(parts: Sequence[Candidates]) -> Candidates:
    """Join candidates, such as those of all levels or views of an image; at least one part.

    Raises:
        ValueError: they have masks, which are not joined.
    """
    if any(part.masks is not None for part in parts):
        raise ValueError("Several views of an image are joined by their boxes, without masks.")
    return Candidates(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.classes for part in parts]),
    )


def nms(
    boxes: FloatArray,
    scores: FloatArray,
    classes: IntArray,
    iou_threshold: float,
    limit: int | None = None,
) -> npt.NDArray[np.int64]:
    """Greedy NMS within each class, as ``torchvision.ops.batched_nms``.

    Args:
        boxes: (D, 4) float32 with positive areas.
        scores: (D,) float32.
        classes: (D,) int64.
        iou_threshold: boxes of one class with a larger IoU suppress each other.
        limit: maximum number of boxes that are kept; None for all.

    Returns:
        Indices of the boxes that are kept, best first.
    """
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    remaining = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(remaining) and (limit is None or len(kept) < limit):
        best, remaining = remaining[0], remaining[1:]
        kept.append(int(best))
        corners = np.maximum(boxes[best, :2], boxes[remaining, :2])
        sides = np.minimum(boxes[best, 2:], boxes[remaining, 2:]) - corners
        overlap = sides.clip(min=0).prod(axis=1)
        iou = overlap / (areas[best] + areas[remaining] - overlap)
        # In float64, because float32 rounds the threshold.
        suppressed = (classes[remaining] == classes[best]) & (
            iou.astype(np.float64) > iou_threshold
        )
        remaining = remaining[~suppressed]
    return np.array(kept, np.int64)
