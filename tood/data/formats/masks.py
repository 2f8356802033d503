"""Segmentations of COCO files: polygons and run-length encodings (RLE)."""

import math
from collections.abc import Callable, Iterable, Sequence
from operator import mul
from typing import Any

import numpy as np
import numpy.typing as npt
import pycocotools.mask as mask_util

from ..dataset import ChangeLog
from ..normalize import MAX_COORDINATE
from .json_file import printable

Polygons = list[list[float]]

# Areas below that are rounding errors, in square pixels.
_MIN_AREA = 1e-6

# How far from an image its polygons may reach, in sides of the image. Tools clip them.
_NEAR = 10
# Coordinates up to which a polygon is followed pixel by pixel.
_MAX_TRACED = 100_000

# How boxes are called that have no mask, or one that cannot be used, in the changes of a dataset.
WITHOUT_MASK = "boxes without a mask dropped"
INVALID_MASK = "boxes without a valid segmentation dropped"


def valid_polygons(segmentation: Any) -> Polygons:
    """Return the polygons of a segmentation: those with 3 points or more, all finite numbers."""
    if not isinstance(segmentation, list):
        return []
    return [polygon for polygon in segmentation if _is_polygon(polygon)]


def polygon_box(segmentation: Any) -> tuple[float, float, float, float] | None:
    """Return the box [x, y, width, height] around polygons; None without a valid one."""
    polygons = valid_polygons(segmentation)
    if not polygons:
        return None
    xs = [x for polygon in polygons for x in polygon[::2]]
    ys = [y for polygon in polygons for y in polygon[1::2]]
    return float(min(xs)), float(min(ys)), float(max(xs) - min(xs)), float(max(ys) - min(ys))


def select_masks(
    segmentations: Iterable[tuple[int, Any, int, int]],
    boxes: npt.NDArray[np.float64],
    is_crowd: Sequence[int] | bytearray,
    describe: Callable[[int], str],
    changes: ChangeLog,
) -> tuple[list[int], list[Any]]:
    """Select the boxes that have a mask: a model with masks cannot learn the others.

    Crowds are not learned, and evaluation needs to know where they are: those without a valid mask
    cover their box.

    Args:
        segmentations: of each box its row, its segmentation, and height and width of its image.
        boxes: [x, y, width, height] of each row.
        is_crowd: of each row.
        describe: names the box of a row, for messages.
        changes: counts what is dropped.

    Returns:
        The rows of the boxes with a valid segmentation, and these.
    """
    kept, masks = [], []
    for row, given, height, width in segmentations:
        mask = valid_segmentation(given, height, width)
        if mask is None and is_crowd[row]:
            changes.add("masks of crowds set to their boxes", describe(row))
            mask = _box_polygons(*boxes[row].tolist())
        if mask is None:
            what = WITHOUT_MASK if _is_missing(given) else INVALID_MASK
            changes.add(what, f"{describe(row)}: {printable(given)}", lost=True)
            continue
        kept.append(row)
        masks.append(mask)
        if isinstance(given, list) and len(mask) < len(given):
            changes.add("invalid polygons dropped", describe(row), lost=True)
    return kept, masks


def _is_missing(segmentation: Any) -> bool:
    """Whether there is none: tools write [] or [[]] for objects that have a box only."""
    if isinstance(segmentation, list):
        return not any(segmentation)
    return segmentation is None or segmentation == {}


def _box_polygons(x: float, y: float, width: float, height: float) -> Polygons:
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def valid_segmentation(segmentation: Any, height: int, width: int) -> Any | None:
    """Return a segmentation as masks are built from it.

    Args:
        segmentation: as the file has it.
        height: of the image.
        width: of the image.

    Returns:
        Its valid polygons, or a compressed RLE of the image's size; None if it is neither, or has
        no pixel. detectron2 would leave out such objects without a word.
    """
    if not isinstance(segmentation, dict):
        polygons = [p for p in valid_polygons(segmentation) if _is_near(p, height, width)]
        return [polygon for polygon in polygons if _has_area(polygon, height, width)] or None
    counts = segmentation.get("counts")
    if segmentation.get("size") != [height, width]:
        return None
    runs = _decompress(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        return None
    if sum(runs) != height * width or not any(runs[1::2]):
        return None
    if isinstance(counts, list):
        return mask_util.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    return {"size": [height, width], "counts": counts}


def _decompress(text: str) -> list[int] | None:
    """Return the run lengths of COCO's compressed RLE; None for other text.

    pycocotools decodes other text too, to random pixels. Each run is a number of 5-bit digits, the
    lowest first, with a bit that says whether another follows; from the fourth run on it is the
    difference to the run before the last.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        digit = ord(character) - 48
        if not 0 <= digit < 64 or shift > 50:
            return None
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        if digit & 16:  # negative
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    return None if shift else runs


def _is_polygon(polygon: Any) -> bool:
    return (
        isinstance(polygon, list)
        and len(polygon) >= 6
        and len(polygon) % 2 == 0
        and all(type(value) in (int, float) and abs(value) <= MAX_COORDINATE for value in polygon)
        and all(math.isfinite(value) for value in polygon)
    )


def _is_near(polygon: list[float], height: int, width: int) -> bool:
    """Whether a polygon stays near its image.

    pycocotools follows a polygon pixel by pixel, also outside of the image: a side of a million
    pixels takes 0.1 seconds and 80 MB, and a file may have a million of them.
    """
    limit = _NEAR * max(height, width)
    return all(abs(value) <= limit for value in polygon)


def _has_area(polygon: list[float], height: int, width: int) -> bool:
    """Whether the points of a polygon are not all on one line."""
    xs, ys = polygon[::2], polygon[1::2]
    twice = sum(map(mul, xs, ys[1:] + ys[:1])) - sum(map(mul, xs[1:] + xs[:1], ys))
    if abs(twice) > _MIN_AREA:
        return True
    # Lines that cross each other may enclose as much on one side as on the other. The size of the
    # image, which limits their length elsewhere, is only what the file says.
    if max(map(abs, polygon)) > _MAX_TRACED:
        return False
    return bool(mask_util.area(mask_util.frPyObjects([polygon], height, width))[0])
