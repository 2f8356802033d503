"""Several looks at one image: overlapping slices of a large one, and its mirror image.

Boxes are float32 in pixels. **D** detections.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .image_io import RGBImage
from .nms import Candidates, concatenate
from .prediction import PredictionSettings
from .suppression import suppress

# A box that ends so near to where its slice was cut, in pixels per pixel of the slice, may go on
# beyond. Networks place a side of a large object within a few percent.
_BORDER = 0.01

# A box that is cut belongs to another one where that covers so much of it.
_COVERED = 0.5


@dataclass(frozen=True)
class View:
    """A look at an image.

    Attributes:
        window: x1, y1, x2, y2 of the part that is seen, in pixels of the image.
        flipped: whether it is mirrored, left and right.
    """

    window: tuple[int, int, int, int]
    flipped: bool = False

    def cut(self, pixels: RGBImage) -> RGBImage:
        """The pixels that are seen, of the image's."""
        x1, y1, x2, y2 = self.window
        seen = pixels[y1:y2, x1:x2]
        return np.ascontiguousarray(seen[:, ::-1]) if self.flipped else seen

    def to_image(self, found: Candidates) -> Candidates:
        """Move boxes from pixels of the view to pixels of the image."""
        x1, y1, x2, _ = self.window
        boxes = found.boxes
        if self.flipped:
            left, top, right, bottom = boxes.T
            boxes = np.stack([(x2 - x1) - right, top, (x2 - x1) - left, bottom], axis=1)
        return found._replace(boxes=boxes + np.array([x1, y1, x1, y1], np.float32))

    def is_cut(
        self, boxes: npt.NDArray[np.float32], image_size: tuple[int, int]
    ) -> npt.NDArray[np.bool_]:
        """Which boxes end where the view does, but the image does not.

        Args:
            boxes: (D, 4) in pixels of the image.
            image_size: (height, width).
        """
        height, width = image_size
        x1, y1, x2, y2 = self.window
        margins = _BORDER * (x2 - x1), _BORDER * (y2 - y1)
        cut = np.zeros(len(boxes), np.bool_)
        if x1 > 0:
            cut |= boxes[:, 0] <= x1 + margins[0]
        if y1 > 0:
            cut |= boxes[:, 1] <= y1 + margins[1]
        if x2 < width:
            cut |= boxes[:, 2] >= x2 - margins[0]
        if y2 < height:
            cut |= boxes[:, 3] >= y2 - margins[1]
        return cut


def make_views(image_size: tuple[int, int], settings: PredictionSettings) -> list[View]:
    """Choose the looks at an image.

    Slices are squares of ``slice_size`` pixels, spread evenly so that neighbors overlap by at least
    ``slice_overlap`` of that. The whole image follows where there are several slices.

    Args:
        image_size: (height, width).
        settings: with the options.
    """
    height, width = image_size
    whole = (0, 0, width, height)
    windows = [whole]
    if settings.slice_size is not None:
        side, overlap = settings.slice_size, settings.slice_overlap
        windows = [
            (x, y, min(x + side, width), min(y + side, height))
            for y in _starts(height, side, overlap)
            for x in _starts(width, side, overlap)
        ]
        if settings.whole_image and len(windows) > 1:
            windows.append(whole)
    return [View(window, flip) for flip in (False, True)[: settings.flip + 1] for window in windows]


def _starts(length: int, side: int, overlap: float) -> list[int]:
    """Where the slices along one axis start, spread evenly from the first to the last pixel."""
    if length <= side:
        return [0]
    step = max(1, math.floor(side * (1 - overlap)))
    gaps = math.ceil((length - side) / step)
    return [round(i * (length - side) / gaps) for i in range(gaps + 1)]


def join_views(
    views: Sequence[View],
    found: Sequence[Candidates],
    image_size: tuple[int, int],
    settings: PredictionSettings,
    model_nms_threshold: float,
) -> Candidates:
    """Join the detections of all views of an image.

    Boxes that a border of their slice cuts are dropped where another view shows more of the object:
    a box of the same class that covers at least half of them and is not cut. Others, of different
    views, that overlap by half of the smaller one are parts of one object, which no view shows
    whole: they become the box around both, with the higher score. Then NMS chooses among all.

    Args:
        views: of :func:`make_views`.
        found: the detections in each, in its pixels.
        image_size: (height, width).
        settings: with the options.
        model_nms_threshold: the model's IoU threshold of NMS.

    Returns:
        Detections in pixels of the image, best first.
    """
    height, width = image_size
    groups = []
    for flipped in sorted({view.flipped for view in views}):
        indices = [i for i, view in enumerate(views) if view.flipped == flipped]
        moved = [views[i].to_image(found[i]) for i in indices]
        origins = np.repeat(indices, [len(candidates.scores) for candidates in moved])
        is_cut = np.concatenate(
            [
                views[i].is_cut(candidates.boxes, image_size)
                for i, candidates in zip(indices, moved, strict=True)
            ]
        )
        groups.append(_join_cut(concatenate(moved), origins, is_cut))
    joined = suppress(
        groups,
        settings.nms,
        iou_threshold=settings.iou_threshold(model_nms_threshold),
        score_threshold=settings.score_threshold,
        limit=settings.max_detections,
    )
    limits = np.array([width, height] * 2, np.float32)
    return joined._replace(boxes=joined.boxes.clip(0, limits))


def _join_cut(
    found: Candidates, origins: npt.NDArray[np.int64], is_cut: npt.NDArray[np.bool_]
) -> Candidates:
    """All boxes of one image, but those that are parts of others.

    Args:
        found: boxes of all views, in pixels of the image.
        origins: (D,), the view that each is from. Boxes of one view are different objects.
        is_cut: (D,), which of them their view's borders cut.
    """
    keep = np.ones(len(is_cut), np.bool_)
    for row in np.flatnonzero(is_cut):
        others = ~is_cut & (origins != origins[row]) & (found.classes == found.classes[row])
        keep[row] = not (_covered(found.boxes[row], found.boxes[others]) >= _COVERED).any()
    parts = keep & is_cut
    joined = _join_parts(found.take(parts), origins[parts])
    return concatenate([found.take(~is_cut), joined])


@dataclass
class _Object:
    """Parts of one object, as far as they are known to belong together."""

    box: npt.NDArray[np.float32]
    best_row: int
    views: set[int]


def _join_parts(parts: Candidates, origins: npt.NDArray[np.int64]) -> Candidates:
    """Replace parts of one object by the box around them, until no two belong together."""
    objects: list[_Object] = []
    for row in np.argsort(-parts.scores, kind="stable").tolist():
        new = _Object(parts.boxes[row], row, {int(origins[row])})
        index = 0
        while index < len(objects):
            other = objects[index]
            if (
                parts.classes[other.best_row] == parts.classes[row]
                and not other.views & new.views
                and _smaller_covered(new.box, other.box) >= _COVERED
            ):
                box = [
                    np.minimum(new.box[:2], other.box[:2]),
                    np.maximum(new.box[2:], other.box[2:]),
                ]
                best = min(other.best_row, new.best_row, key=lambda r: -parts.scores[r])
                new = _Object(np.concatenate(box), best, other.views | new.views)
                del objects[index]
                index = 0  # the grown box may meet others, which were apart before
            else:
                index += 1
        objects.append(new)
    boxes = np.array([known.box for known in objects], np.float32).reshape(-1, 4)
    taken = parts.take(np.array([known.best_row for known in objects], np.int64))
    return taken._replace(boxes=boxes)


def _covered(
    box: npt.NDArray[np.float32], others: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Which fraction of a box each of the others (D, 4) covers."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    overlap = sides.clip(min=0).prod(axis=1)
    return np.asarray(overlap / max(float((box[2:] - box[:2]).prod()), 1e-9), np.float32)


def _smaller_covered(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> float:
    """Which fraction of the smaller box the larger one covers."""
    return max(
        float(_covered(first, second[None])[0]),
        float(_covered(second, first[None])[0]),
    )
