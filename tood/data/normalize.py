"""Brings what a reader of any format found into the normalized form."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from .dataset import ChangeLog, DetectionDataset, FileId

# Coordinates beyond this (pixels) are in no image, and too large for the fractions of a pixel that
# float32 boxes of a model need.
MAX_COORDINATE = 1e6
# Boxes may leave their image a little, by rounding or by guessing at hidden parts. Where more than
# this fraction of the boxes ends beyond the image by more than this fraction of its side, they are
# probably not [x, y, width, height].
SUSPICIOUS_FRACTION = 0.1
SUSPICIOUS_MARGIN = 0.05
# The part of a box's side that the rounding of its corners to 32 bits may change; at most half of
# what an IoU of 0.95 allows.
MAX_ROUNDING = 0.02
# How the change is called, by readers too.
WRONG_AREAS = "areas that cannot be the box's set to width * height"


def build_dataset(
    *,
    source: str,
    class_names: Sequence[object],
    category_ids: Sequence[FileId],
    file_names: list[str],
    image_ids: Sequence[FileId],
    heights: npt.ArrayLike,
    widths: npt.ArrayLike,
    image_index: npt.ArrayLike,
    class_ids: npt.ArrayLike,
    boxes: npt.ArrayLike,
    is_crowd: npt.ArrayLike | None = None,
    areas: npt.ArrayLike | None = None,
    segmentations: list[Any] | None = None,
    keypoints: npt.ArrayLike | None = None,
    keypoint_names: Sequence[str] = (),
    describe: Callable[[int], str] = lambda row: f"box {row + 1}",
    changes: ChangeLog | None = None,
    annotated: bool = True,
) -> DetectionDataset:
    """Build a dataset from what a file says, one entry per box in any order.

    Boxes without finite values or without area in 32 bits are dropped: no detection can match them;
    areas that cannot be the box's are replaced; everything is counted.

    Args:
        source: what was read, for messages.
        class_names: K names; numbers become text, and names that occur twice get their id.
        category_ids: K ids of the file.
        file_names: N paths.
        image_ids: N ids of the file.
        heights: (N,) pixels; 0 for images that cannot be read. They are left out with their boxes,
            and listed in ``changes.unreadable``.
        widths: (N,) pixels.
        image_index: (M,) the image of each box.
        class_ids: (M,) its class index.
        boxes: (M, 4) [x, y, width, height]; values that are not numbers as NaN.
        is_crowd: (M,) see `DetectionDataset`; None for no crowds.
        areas: (M,) of the objects, NaN where unknown; None where no area is known.
        segmentations: M masks where masks are used.
        keypoints: (M, P, 3) where keypoints are used; see `DetectionDataset`.
        keypoint_names: P names; none where they are not known.
        describe: names a box in the file, for messages.
        changes: what the reader has changed already.
        annotated: see `DetectionDataset`.

    Raises:
        DataError: there are no images or no classes, or the boxes are fractions of the image.
    """
    changes = ChangeLog() if changes is None else changes
    if not len(file_names):
        raise DataError(f"{source} has no images. A dataset needs at least one.")
    if not len(class_names):
        raise DataError(f"{source} has no classes. A dataset needs at least one.")
    heights, widths = np.asarray(heights, np.int32), np.asarray(widths, np.int32)
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    image_index = np.asarray(image_index, np.int64).reshape(-1)
    crowd = np.zeros(len(boxes), bool) if is_crowd is None else np.asarray(is_crowd, bool)
    readable = heights > 0
    kept = _usable_boxes(boxes, readable[image_index], describe, changes)
    _refuse_fractions(source, boxes if len(kept) == len(boxes) else boxes[kept], kept, describe)
    # A stable sort: boxes of an image keep their order.
    order = kept[np.argsort(image_index[kept], kind="stable")]
    boxes, image_index, crowd = boxes[order], image_index[order], crowd[order]
    _warn_about_corners(boxes, heights[image_index], widths[image_index], order, describe, changes)
    counts = np.bincount(image_index, minlength=len(file_names))
    dataset = DetectionDataset(
        source=source,
        class_names=distinct_names(class_names, category_ids, changes),
        category_ids=list(category_ids),
        file_names=file_names,
        image_ids=list(image_ids),
        heights=heights,
        widths=widths,
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=boxes,
        class_ids=np.asarray(class_ids, np.int32).reshape(-1)[order],
        is_crowd=crowd,
        areas=_plausible_areas(areas, boxes, order, describe, changes),
        segmentations=None if segmentations is None else [segmentations[row] for row in order],
        keypoints=None if keypoints is None else np.asarray(keypoints, np.float32)[order],
        keypoint_names=list(keypoint_names),
        changes=changes,
        annotated=annotated,
    )
    return dataset if readable.all() else _leave_out(dataset, readable)


def _leave_out(dataset: DetectionDataset, readable: npt.NDArray[np.bool_]) -> DetectionDataset:
    """Leave out the images that cannot be read; their boxes are not in the dataset."""
    unreadable = [dataset.file_names[index] for index in np.flatnonzero(~readable)]
    if not readable.any():
        raise DataError(
            f"{dataset.source}: none of its {len(dataset)} images can be read, for example "
            f"{unreadable[0]}. Check the path."
        )
    dataset.changes.unreadable.extend(unreadable)
    return dataset.select_images(readable)


def _usable_boxes(
    boxes: npt.NDArray[np.float64],
    readable: npt.NDArray[np.bool_],
    describe: Callable[[int], str],
    changes: ChangeLog,
) -> npt.NDArray[np.int64]:
    """Return the rows of boxes that an object can have, in images (M,) that can be read."""
    with np.errstate(invalid="ignore"):
        finite = (np.abs(boxes) <= MAX_COORDINATE).all(axis=1)
        flat = finite & ~((boxes[:, 2] > 0) & (boxes[:, 3] > 0))
        lost = finite & ~flat & _is_lost(boxes)
    for what, mask in (
        ("boxes of images that cannot be read left out", ~readable),
        ("boxes without finite values dropped", readable & ~finite),
        ("boxes without area dropped", readable & flat),
        ("boxes too small for 32-bit coordinates dropped", readable & lost),
    ):
        rows = np.flatnonzero(mask)
        if len(rows):
            first = int(rows[0])
            changes.add(what, f"{describe(first)}: {boxes[first].tolist()}", len(rows), lost=True)
    return np.flatnonzero(readable & finite & ~flat & ~lost)


def _is_lost(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which boxes (M, 4) lose their sides in 32 bits, which detections have."""
    lost = np.zeros(len(boxes), bool)
    for axis in (0, 1):
        start, side = boxes[:, axis], boxes[:, axis + 2]
        rounded = (start + side).astype(np.float32) - start.astype(np.float32)
        lost |= np.abs(rounded - side) > MAX_ROUNDING * side
    return lost


def _refuse_fractions(
    source: str,
    boxes: npt.NDArray[np.float64],
    rows: npt.NDArray[np.int64],
    describe: Callable[[int], str],
) -> None:
    """Refuse a dataset all of whose boxes end within the first pixel."""
    ends = boxes[:, :2] + boxes[:, 2:]
    if len(boxes) and (ends <= 1).all() and (boxes % 1 != 0).any():
        raise DataError(
            f"{source}: the boxes seem to be fractions of the image, such as "
            f"{describe(int(rows[0]))}: {boxes[0].tolist()}. Give them in pixels, "
            "[x, y, width, height]."
        )


def _plausible_areas(
    given: npt.ArrayLike | None,
    boxes: npt.NDArray[np.float64],
    order: npt.NDArray[np.int64],
    describe: Callable[[int], str],
    changes: ChangeLog,
) -> npt.NDArray[np.float64]:
    """Replace areas that an object in this box cannot have; unknown ones without counting."""
    width, height = boxes[:, 2], boxes[:, 3]
    if given is None:
        return np.asarray(width * height)
    areas = np.asarray(given, np.float64).reshape(-1)[order]
    unknown = np.isnan(areas)
    # Tools that count pixels have an area of up to (width + 1) * (height + 1).
    with np.errstate(invalid="ignore"):
        possible = (areas > 0) & (areas <= (width + 1) * (height + 1))
        # Fractions of the image, or a constant.
        if not (areas > 1).any() and (width * height > 100).any():
            possible[:] = False
    wrong = np.flatnonzero(~possible & ~unknown)
    if len(wrong):
        first = int(wrong[0])
        changes.add(
            WRONG_AREAS,
            f"{describe(int(order[first]))}: {areas[first]:g}",
            len(wrong),
        )
    return np.where(possible, areas, width * height)


def _warn_about_corners(
    boxes: npt.NDArray[np.float64],
    heights: npt.NDArray[np.int32],
    widths: npt.NDArray[np.int32],
    order: npt.NDArray[np.int64],
    describe: Callable[[int], str],
    changes: ChangeLog,
) -> None:
    """Warn where so many boxes leave their image that they are probably two corners."""
    beyond = (boxes[:, 0] + boxes[:, 2] > widths * (1 + SUSPICIOUS_MARGIN)) | (
        boxes[:, 1] + boxes[:, 3] > heights * (1 + SUSPICIOUS_MARGIN)
    )
    rows = np.flatnonzero(beyond)
    if len(rows) and len(rows) >= SUSPICIOUS_FRACTION * len(boxes):
        first = int(rows[0])
        changes.warnings.append(
            f"{len(rows)} of {len(boxes)} boxes leave their image, for example "
            f"{describe(int(order[first]))}: {boxes[first].tolist()} in an image of "
            f"{widths[first]}x{heights[first]} pixels. Is it [x, y, width, height]?"
        )


def distinct_names(
    names: Sequence[object], category_ids: Sequence[FileId], changes: ChangeLog
) -> list[str]:
    """Return names as text, told apart by their ids where they are equal.

    Args:
        names: K names; numbers become text.
        category_ids: K ids.
        changes: counts the names that were changed.
    """
    # Half of a surrogate pair can be in a JSON file, but in no other file.
    texts = [str(name).encode("utf-8", "replace").decode() for name in names]
    counts = Counter(texts)
    taken = set(texts)
    distinct = []
    for text, category_id in zip(texts, category_ids, strict=True):
        if counts[text] > 1:
            changes.add("classes of one name told apart by their ids", repr(text))
            text = f"{text} ({category_id})"
            while text in taken:
                text += "'"
            taken.add(text)
        distinct.append(text)
    return distinct
