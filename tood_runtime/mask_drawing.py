"""Drawing masks: the pixels of each object tinted in the color of its class, with an outline."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from .colors import Color
from .masks import Mask, Masks, Window

# Part of the color in the pixels of an object, of 255.
_OPACITY = 128


def draw_masks(
    canvas: Image.Image, masks: Masks, order: Sequence[int], colors: Sequence[Color], line: int
) -> None:
    """Draw masks on an image, in place.

    Args:
        canvas: RGB; masks are scaled to its size.
        masks: of the objects.
        order: the masks to draw, the best first. It is on top.
        colors: of each mask.
        line: width of the outlines in pixels of the canvas; those of small objects are thinner.
    """
    for index in reversed(order):
        mask, (x1, y1, x2, y2) = _scaled(masks, index, (canvas.height, canvas.width))
        if not mask.any():
            continue
        # A thick line would hide a small object.
        width = min(line, max(1, min(x2 - x1, y2 - y1) // 12))
        outline = mask & ~_eroded(mask, width)
        for part, opacity in ((mask, _OPACITY), (outline, 255)):
            alpha = Image.fromarray(part * np.uint8(opacity))
            canvas.paste(colors[index], (x1, y1, x2, y2), alpha)


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
    columns = _minimum(np.pad(mask, ((width, width), (0, 0))), 2 * width + 1)
    rows = _minimum(np.pad(mask, ((0, 0), (width, width))).T, 2 * width + 1).T
    return columns & rows


def _minimum(mask: Mask, span: int) -> Mask:
    """Whether all rows from each row on, over a span, are set; for rows with a whole span."""
    size = 1
    while size < span:  # the span doubles each time
        step = min(size, span - size)
        mask = mask[:-step] & mask[step:]
        size += step
    return mask
