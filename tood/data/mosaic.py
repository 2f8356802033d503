"""Putting images and their boxes together: mosaic and mix-up, as functions of arrays.

M is the number of boxes of an image. Boxes are (x1, y1, x2, y2) in pixels of their image.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import detectron2.data.transforms as T
import numpy as np
import numpy.typing as npt
from PIL import Image

from .dataset import MIN_BOX_SIDE

# What covers the parts of a mosaic that no image reaches, as in detectron2's FixedSizeCrop.
FILL_VALUE = 128


@dataclass(frozen=True)
class LabeledImage:
    """An image with its boxes, after its augmentation.

    Attributes:
        pixels: (H, W, C) uint8.
        boxes: (M, 4) float32.
        classes: (M,) int64 class indices.
        is_crowd: (M,) bool.
    """

    pixels: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    is_crowd: npt.NDArray[np.bool_]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def select(self, keep: npt.NDArray[np.bool_]) -> "LabeledImage":
        """Return the image with some of its boxes."""
        return replace(
            self,
            boxes=self.boxes[keep],
            classes=self.classes[keep],
            is_crowd=self.is_crowd[keep],
        )

    def resize(self, height: int, width: int) -> "LabeledImage":
        """Return the image at another size."""
        old_height, old_width = self.size
        if (height, width) == (old_height, old_width):
            return self
        resize = T.ResizeTransform(old_height, old_width, height, width, Image.Resampling.BILINEAR)
        factors = np.array([width / old_width, height / old_height] * 2)
        return replace(
            self,
            pixels=resize.apply_image(self.pixels),
            boxes=(self.boxes * factors).astype(np.float32),
        )


def mosaic(
    parts: Sequence[LabeledImage],
    size: tuple[int, int],
    center: tuple[int, int],
    min_visible: float,
) -> LabeledImage:
    """Put four images around a point.

    A corner of each image lies at the point: the bottom right corner of the first image, which is
    at the top left; then top right, bottom left and bottom right. What extends beyond the mosaic is
    cut, and what no image covers is gray.

    Args:
        parts: the four images.
        size: (height, width) of the mosaic in pixels.
        center: (x, y) of the point, in pixels, in the mosaic or on its border.
        min_visible: a box stays if at least this fraction of its area is not cut.
    """
    (height, width), (x, y) = size, center
    shape = (height, width, parts[0].pixels.shape[2])
    pixels = np.full(shape, FILL_VALUE, parts[0].pixels.dtype)
    placed = []
    for index, part in enumerate(parts):
        part_height, part_width = part.size
        left = x if index % 2 else x - part_width
        top = y if index >= 2 else y - part_height
        # The part of the image that is visible, in the mosaic.
        x1, x2 = max(0, left), min(width, left + part_width)
        y1, y2 = max(0, top), min(height, top + part_height)
        if x1 >= x2 or y1 >= y2:
            placed.append(part.select(np.zeros(len(part.boxes), bool)))
            continue
        pixels[y1:y2, x1:x2] = part.pixels[y1 - top : y2 - top, x1 - left : x2 - left]
        shifted = part.boxes + np.array([left, top, left, top], np.float32)
        placed.append(_cut(replace(part, boxes=shifted), (x1, y1, x2, y2), min_visible))
    return _join(pixels, placed)


def mix(first: LabeledImage, second: LabeledImage, weight: float) -> LabeledImage:
    """Blend an image with another, whose top left corner is put onto its own.

    The second image is scaled down if it is larger. Where it does not reach, the first one stays as
    it is.

    Args:
        first: the image.
        second: the other one.
        weight: of the first image, from 0 to 1.

    Returns:
        An image of the first one's size with the boxes of both.
    """
    (height, width), (other_height, other_width) = first.size, second.size
    scale = min(1.0, height / other_height, width / other_width)
    if scale < 1:
        second = second.resize(
            min(height, max(1, round(other_height * scale))),
            min(width, max(1, round(other_width * scale))),
        )
        second = _cut(second, (0, 0, second.size[1], second.size[0]), 0.0)
    height, width = second.size
    pixels = first.pixels.copy()
    blended = pixels[:height, :width] * np.float32(weight)
    blended += second.pixels * np.float32(1 - weight)
    pixels[:height, :width] = blended.round().astype(pixels.dtype)
    return _join(pixels, [first, second])


def _cut(
    image: LabeledImage, window: tuple[int, int, int, int], min_visible: float
) -> LabeledImage:
    """Clip boxes to a window (x1, y1, x2, y2), and drop those of which too little is left."""
    x1, y1, x2, y2 = window
    limits = np.array([[x1, y1, x1, y1], [x2, y2, x2, y2]], np.float32)
    boxes = image.boxes.clip(limits[0], limits[1])
    sides = boxes[:, 2:] - boxes[:, :2]
    whole = (image.boxes[:, 2:] - image.boxes[:, :2]).astype(np.float64).prod(1)
    visible = sides.astype(np.float64).prod(1)
    keep = (sides >= MIN_BOX_SIDE).all(1) & (visible >= min_visible * whole)
    return replace(image, boxes=boxes).select(keep)


def _join(pixels: npt.NDArray[np.uint8], parts: Sequence[LabeledImage]) -> LabeledImage:
    return LabeledImage(
        pixels,
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.classes for part in parts]),
        np.concatenate([part.is_crowd for part in parts]),
    )
