"""Labels of drawn boxes: what fits, and where labels do not cover each other."""

import functools
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .fonts import Font, choose_font, drawable_text

FloatArray: TypeAlias = npt.NDArray[np.float64]

# Below this size in pixels, text cannot be read.
MIN_FONT_SIZE = 8

# Longer class names are cut: a label as wide as the image would cover other objects.
_MAX_NAME_LENGTH = 40

# How far a label may move from its box when the places around the box are taken, in labels.
_MAX_SHIFT_X, _MAX_SHIFT_Y = 4, 8

# With more labels than this the image is full: further ones go above their boxes, unsearched.
_MAX_PLACED = 500


@dataclass(frozen=True)
class Label:
    """A text ready to draw.

    Attributes:
        text: one line.
        font: the font to draw it with.
        offset: (x, y) of the text's origin in the label, pixels.
        size: (width, height) of the label, pixels.
    """

    text: str
    font: Font
    offset: tuple[int, int]
    size: tuple[int, int]


def fit_label(name: str, score: str, font_size: int, max_size: tuple[int, int]) -> Label | None:
    """Lay out "name score" on one line that fits into the image.

    Names of more than 40 characters are cut. A text that does not fit gets a smaller font, then a
    shorter name.

    Args:
        name: the class name.
        score: the formatted score, or "".
        font_size: preferred size in pixels.
        max_size: (width, height) of the image, pixels.

    Returns:
        The label, or None where not even one character would be readable.
    """
    if len(name) > _MAX_NAME_LENGTH:
        name = f"{name[: _MAX_NAME_LENGTH - 1].rstrip()}…"
    label = _measure(f"{name} {score}".rstrip(), font_size)
    while not _fits(label, max_size) and font_size > MIN_FONT_SIZE:
        ratio = min(limit / side for limit, side in zip(max_size, label.size, strict=True))
        font_size = max(MIN_FONT_SIZE, min(font_size - 1, int(font_size * ratio)))
        label = _measure(f"{name} {score}".rstrip(), font_size)
    while not _fits(label, max_size) and name:
        name = name[:-1]
        label = _measure(f"{name}… {score}".rstrip() if name else score, font_size)
    return label if _fits(label, max_size) else None


def _fits(label: Label, max_size: tuple[int, int]) -> bool:
    return label.size[0] <= max_size[0] and label.size[1] <= max_size[1]


@functools.lru_cache(maxsize=4096)
def _measure(text: str, font_size: int) -> Label:
    font = choose_font(text, font_size)
    text = drawable_text(text, font)
    padding = max(1, font_size // 6)
    # One height for all labels of a font, whether or not their letters have descenders.
    left, top, right, bottom = font.getbbox(text)
    _, line_top, _, line_bottom = font.getbbox("Äg" if text.isascii() else f"Äg{text}")
    top, bottom = int(min(top, line_top)), int(np.ceil(max(bottom, line_bottom)))
    left, right = int(np.floor(left)), int(np.ceil(right))
    size = (right - left + 2 * padding, bottom - top + 2 * padding)
    return Label(text, font, (padding - left, padding - top), size)


class LabelPlacer:
    """Places labels one after the other, each where it covers those before it least.

    Args:
        image_size: (width, height) in pixels; labels stay inside.
    """

    def __init__(self, image_size: tuple[int, int]) -> None:
        self._image_size = np.array(image_size, dtype=np.float64)
        self._placed = np.empty((_MAX_PLACED, 4))  # x1, y1, x2, y2
        self._count = 0

    def place(self, box: FloatArray, size: tuple[int, int]) -> tuple[int, int]:
        """Choose the top left corner of a label.

        The order of preference: above the box, inside its top, at its other corners, in its middle,
        then the nearest free place around it.

        Args:
            box: (4,) x1, y1, x2, y2 in pixels.
            size: (width, height) of the label, at most that of the image.
        """
        limit = self._image_size - size
        corners = np.clip(_places_at(box, size), 0, limit).round()
        if self._count == len(self._placed):
            return int(corners[0, 0]), int(corners[0, 1])
        covered = self._covered_area(corners, size)
        if covered.min() > 0:
            around = np.clip(corners[0] + _SHIFTS * size, 0, limit).round()
            corners = np.concatenate([corners, around])
            covered = np.concatenate([covered, self._covered_area(around, size)])
        corner = corners[covered.argmin()]  # the first of equals
        self._placed[self._count] = [*corner, *(corner + size)]
        self._count += 1
        return int(corner[0]), int(corner[1])

    def _covered_area(self, corners: FloatArray, size: tuple[int, int]) -> FloatArray:
        """Area (P,) of placed labels that a label would cover at each of the corners (P, 2)."""
        placed = self._placed[: self._count]
        first, last = corners.min(axis=0), corners.max(axis=0) + size
        placed = placed[(placed[:, :2] < last).all(axis=1) & (placed[:, 2:] > first).all(axis=1)]
        x, y = (
            np.minimum(corners[:, None, i] + size[i], placed[:, 2 + i])
            - np.maximum(corners[:, None, i], placed[:, i])
            for i in (0, 1)
        )  # (P, near)
        area: FloatArray = (x.clip(min=0) * y.clip(min=0)).sum(axis=1)
        return area


def _places_at(box: FloatArray, size: tuple[int, int]) -> FloatArray:
    """Corners (9, 2) of a label at a box, best first."""
    (x1, y1, x2, y2), (width, height) = box.tolist(), size
    left, right, center = x1, x2 - width, (x1 + x2 - width) / 2
    above, top, bottom, below = y1 - height, y1, y2 - height, y2
    middle = (y1 + y2 - height) / 2
    places = [(left, above), (left, top), (right, above), (left, below), (left, bottom)]
    places += [(right, below), (right, top), (right, bottom), (center, middle)]
    return np.array(places)


def _shifts() -> FloatArray:
    """Shifts (S, 2) in units of a label's size, nearest first."""
    x, y = np.meshgrid(
        np.arange(-_MAX_SHIFT_X, _MAX_SHIFT_X + 1), np.arange(-_MAX_SHIFT_Y, _MAX_SHIFT_Y + 1)
    )
    shifts = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float64)
    distances = np.hypot(4 * shifts[:, 0], shifts[:, 1])  # a label is about 4 times as wide as high
    return shifts[np.argsort(distances, kind="stable")]


_SHIFTS = _shifts()
