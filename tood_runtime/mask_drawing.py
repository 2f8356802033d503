"""Drawing masks: the pixels of each object tinted in the color of its class, with an outline."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from .colors import Color
from .image_io import RGBImage
from .masks import Mask, Masks, Window

# Part of the color in the pixels of an object.
_OPACITY = 0.5


def draw_masks(
    canvas: RGBImage, masks: Masks, order: Sequence[int], colors: Sequence[Color], line: int
) -> None:
    """Draw masks on an image, in place.

    Args:
        canvas: (H', W', 3) uint8; masks are scaled to its size.
        masks: of the objects.
        order: the masks to draw, the best first. It is on top.
        colors: of each mask.
        line: width of the outlines in pixels of the canvas; those of small objects are thinner.
    """
    for index in reversed(order):
        mask, (x1, y1, x2, y2) = _scaled(masks, index, (canvas.shape[0], canvas.shape[1]))
        if not mask.any():
            continue
        pixels = canvas[y1:y2, x1:x2]
        color = np.array(colors[index], np.float32)
        pixels[mask] = (pixels[mask] * (1 - _OPACITY) + color * _OPACITY).round().astype(np.uint8)
        # A thick line would hide a small object.
        shorter = int((np.array([x2, y2]) - (x1, y1)).min())
        pixels[mask & ~_eroded(mask, min(line, max(1, shorter // 12)))] = colors[index]


def _scaled(masks: Masks, index: int, canvas_size: tuple[int, int]) -> tuple[Mask, Window]:
    """A mask in pixels of a canvas (height, width), within its window there."""
    mask, window = masks.crop(index), masks.windows[index]
    if canvas_size == masks.image_size or not mask.any():
        return mask, window
    factors = np.array(canvas_size[::-1]) / np.array(masks.image_size[::-1])
    limits = np.array(canvas_size[::-1])
    low = np.minimum(np.round(window[:2] * factors).astype(int), limits - 1)
    high = np.minimum(np.maximum(np.round(window[2:] * factors).astype(int), low + 1), limits)
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    # Interpolated, so that enlarged masks have smooth edges.
    gray = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(gray) > 127, (int(low[0]), int(low[1]), int(high[0]), int(high[1]))


def _eroded(mask: Mask, width: int) -> Mask:
    """The pixels whose neighbors up to a distance, along both axes, are in the mask too.

    What is beyond the window is not, so that an outline is closed where its object leaves the
    image.
    """
    padded: npt.NDArray[np.bool_] = np.pad(mask, width)
    kept = mask.copy()
    height, length = mask.shape
    for shift in range(1, width + 1):
        for sign in (-shift, shift):
            kept &= padded[width + sign : width + sign + height, width : width + length]
            kept &= padded[width : width + height, width + sign : width + sign + length]
    return kept
