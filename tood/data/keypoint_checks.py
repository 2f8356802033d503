"""Checks of keypoints that need the annotations only."""

from collections.abc import Iterable

import numpy as np

from .box_checks import describe_box, find_boxes, find_images
from .dataset import DetectionDataset
from .findings import Finding, FindingKind, find, one_line
from .keypoint_arrays import count_labeled

# Rounding puts keypoints beyond their box by up to this (pixels).
_ROUNDING = 1.0

NEVER_LABELED = FindingKind(
    "keypoints-never-labeled",
    "warning",
    "keypoints that no object has labeled",
    "They cannot be learned from this set. Check the order of the keypoints.",
)
NO_KEYPOINTS = FindingKind(
    "objects-without-keypoints",
    "note",
    "objects without labeled keypoints",
    "Training uses their boxes only, and the evaluation of keypoints ignores them.",
)
IMAGES_WITHOUT = FindingKind(
    "images-without-keypoints",
    "note",
    "images with objects but no labeled keypoint",
    "Training skips them unless MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE is 0.",
)
BEYOND_BOX = FindingKind(
    "keypoints-beyond-box",
    "note",
    "objects with labeled keypoints more than a pixel beyond their box",
    "A model predicts keypoints within the box, so these are not learned and count as errors.",
)


def check_keypoints(dataset: DetectionDataset) -> Iterable[Finding]:
    """Yield what looks wrong in the keypoints of a dataset; nothing if it has none."""
    points = dataset.keypoints
    if points is None or not dataset.annotated:
        return
    labeled = (points[..., 2] > 0) & ~dataset.is_crowd[:, None]
    names = dataset.keypoint_names or [f"keypoint {i + 1}" for i in range(points.shape[1])]
    never = [one_line(names[index]) for index in np.flatnonzero(~labeled.any(axis=0))]
    yield from find(NEVER_LABELED, len(never), never)
    without = ~dataset.is_crowd & (count_labeled(points) == 0)
    yield from find_boxes(NO_KEYPOINTS, dataset, np.flatnonzero(without))
    found = np.bincount(dataset.image_index[labeled.any(axis=1)], minlength=len(dataset))
    yield from find_images(IMAGES_WITHOUT, dataset, (found == 0) & (np.diff(dataset.offsets) > 0))
    low, side = dataset.boxes[:, None, :2], dataset.boxes[:, None, 2:]
    outside = (points[..., :2] < low - _ROUNDING) | (points[..., :2] > low + side + _ROUNDING)
    beyond = labeled & outside.any(axis=2)

    def describe(row: int) -> str:
        x, y, _ = points[row, beyond[row]][0]
        name = one_line(names[int(np.argmax(beyond[row]))])
        return f"{name} at ({x:g}, {y:g}) of {describe_box(dataset, row)}"

    yield from find_boxes(BEYOND_BOX, dataset, np.flatnonzero(beyond.any(axis=1)), describe)
