"""Keypoints of objects as arrays (M, P, 3) of x, y and visibility.

They are in detectron2's convention: distances from the image's corner, in pixels. COCO's files have
pixel indices instead, whose centers are half a pixel further.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float32]

# Added to COCO's coordinates.
PIXEL_CENTER = 0.5


def count_labeled(points: Points) -> npt.NDArray[np.int64]:
    """Return how many keypoints of each object are labeled (M,)."""
    return np.count_nonzero(points[..., 2] > 0, axis=-1)


def coco_keypoints(points: Points) -> dict[str, Any]:
    """Return the fields of an annotation of a COCO file, from the keypoints (P, 3) of an object."""
    values = points.astype(np.float64)
    values[:, :2] -= PIXEL_CENTER
    values[points[:, 2] == 0] = 0
    return {"keypoints": values.reshape(-1).tolist(), "num_keypoints": int(count_labeled(points))}


def join_points(arrays: Sequence[Points | None]) -> Points | None:
    """Return the keypoints of several datasets; None if one has none."""
    found = [points for points in arrays if points is not None]
    return np.concatenate(found) if found and len(found) == len(arrays) else None
