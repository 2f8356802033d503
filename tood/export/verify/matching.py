"""Matching of detections one to one.

Shapes: **E** expected and **F** found detections of one image, which have the same class, box and
score if a file is right.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]

# Of half and int8 files: less than the NMS threshold of the configs, so that where rounding
# swaps two boxes that suppress each other, they still match.
MIN_IOU = 0.5


class Detected(NamedTuple):
    """Detections or candidates of one image.

    Attributes:
        boxes: (D, 4) as (x1, y1, x2, y2), in pixels of the network's input.
        scores: (D,).
        classes: (D,).
    """

    boxes: Floats
    scores: Floats
    classes: Ints

    def take(self, index: Any) -> "Detected":
        """Some of them, by any index of NumPy."""
        return Detected(self.boxes[index], self.scores[index], self.classes[index])


class Limits(NamedTuple):
    """How far a detection may be from its counterpart.

    Attributes:
        box: largest difference of a coordinate, in pixels of the network's input.
        score: largest difference of a score.
    """

    box: float = 1e-2
    score: float = 1e-4


DEFAULT_LIMITS = Limits()


def differences(expected: Detected, found: Detected) -> tuple[Floats, Floats]:
    """Largest difference of a coordinate (E, F) in pixels, and that of scores (E, F).

    Infinite for two of different classes.
    """
    scores = np.abs(expected.scores[:, None].astype(float) - found.scores[None])
    boxes = np.zeros_like(scores)
    for first, second in zip(expected.boxes.T, found.boxes.T, strict=True):
        np.maximum(boxes, np.abs(first[:, None].astype(float) - second[None]), out=boxes)
    other = expected.classes[:, None] != found.classes[None]
    return np.where(other, np.inf, boxes), np.where(other, np.inf, scores)


def match_within(expected: Detected, found: Detected, limits: Limits) -> list[tuple[int, int]]:
    """Match as many detections as possible, each with one within the limits.

    Returns:
        Index pairs of ``expected`` and ``found``.
    """
    boxes, scores = differences(expected, found)
    cost = np.maximum(boxes / limits.box, scores / limits.score)
    neighbors = [
        [int(j) for j in np.argsort(row, kind="stable")[: np.count_nonzero(row <= 1)]]
        for row in cost
    ]
    partner: dict[int, int] = {}  # of found ones

    def find_partner(i: int, visited: set[int]) -> bool:
        """Match detection ``i`` by Kuhn's augmenting paths.

        A pair makes room if another is within the limits too.
        """
        for j in neighbors[i]:
            if j not in visited:
                visited.add(j)
                if j not in partner or find_partner(partner[j], visited):
                    partner[j] = i
                    return True
        return False

    for i in range(len(neighbors)):
        find_partner(i, set())
    return sorted((i, j) for j, i in partner.items())


def match_by_iou(
    expected: Detected, found: Detected, min_iou: float = MIN_IOU
) -> list[tuple[int, int]]:
    """Match detections of the same class, those with the largest IoU first.

    Returns:
        Index pairs of ``expected`` and ``found`` with an IoU of at least ``min_iou``.
    """
    iou = pairwise_iou(expected.boxes, found.boxes)
    iou[expected.classes[:, None] != found.classes[None]] = -1
    pairs: list[tuple[int, int]] = []
    for flat in np.argsort(-iou, axis=None, kind="stable")[: np.count_nonzero(iou >= min_iou)]:
        i, j = divmod(int(flat), iou.shape[1])
        if all(i != a and j != b for a, b in pairs):
            pairs.append((i, j))
    return pairs


def pairwise_iou(first: Floats, second: Floats) -> Floats:
    """IoU (A, B) of boxes (A, 4) and (B, 4); 0 for boxes without area."""
    first, second = first[:, None].astype(float), second[None].astype(float)
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    intersection = (high - low).clip(0).prod(-1)
    union = _areas(first) + _areas(second) - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def _areas(boxes: Floats) -> Floats:
    return (boxes[..., 2:] - boxes[..., :2]).clip(0).prod(-1)
