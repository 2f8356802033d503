"""Drawing detections with Pillow."""

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from .colors import Color, class_color, to_linear
from .image_io import ImageInput, RGBImage, as_rgb
from .labels import Label, LabelPlacer, fit_label
from .mask_drawing import draw_masks

if TYPE_CHECKING:
    from .detections import Detections

# Longer side in pixels from which on labels fit next to the objects.
MIN_DISPLAY_SIDE = 480

# Font size and line width as fractions of the image's size, the square root of its area.
_FONT_FRACTION, _MIN_FONT = 1 / 60, 12
_LINE_FRACTION, _MIN_LINE = 1 / 350, 2
# Length of a dash and of the gap after it, in pixels.
_DASH = 6


def display_scale(image: RGBImage) -> float:
    """Return the scale to draw an image (H, W, 3) at: small ones are enlarged for the labels."""
    height: int = image.shape[0]
    width: int = image.shape[1]
    return max(1.0, MIN_DISPLAY_SIDE / max(height, width))


def draw_detections(
    image: ImageInput, detections: "Detections", scale: float | None = None
) -> Image.Image:
    """Draw boxes, each with a label of its class name and score, and below them the masks.

    Labels stay inside the image and avoid each other; where two must overlap, the higher score is
    on top. Class names are drawn literally, in any script for which a font is installed.

    Args:
        image: the image that the detections belong to: a path, a PIL image or a (H, W, 3) uint8
            array, in the channel order that the detector got it in. It is not changed.
        detections: what to draw.
        scale: size of the drawing relative to the image; by default :func:`display_scale`.

    Returns:
        A new RGB image.

    Raises:
        ValueError: the image has another size than the detections' image, or ``scale`` is not
            positive.
        TypeError: the image is of no accepted type.
    """
    pixels = require_own_image(image, detections)
    height, width = pixels.shape[:2]
    if scale is None:
        scale = display_scale(pixels)
    if not 0 < scale < math.inf:
        raise ValueError(f"scale must be positive and finite, got {scale}.")
    canvas = Image.fromarray(pixels)
    if scale != 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        canvas = canvas.resize(size, Image.Resampling.BICUBIC)
    if detections.mask is not None:
        draw_masks(
            canvas,
            detections.mask,
            np.argsort(-detections.confidence, kind="stable").tolist(),
            [class_color(class_id) for class_id in detections.class_id.tolist()],
            _scaled(canvas.size, _LINE_FRACTION, _MIN_LINE),
        )
    boxes = _to_canvas(detections.xyxy, (width, height), canvas.size)
    order = _visible_best_first(boxes, detections.confidence, canvas.size)
    draw = ImageDraw.Draw(canvas)
    _draw_boxes(draw, boxes, detections, order, canvas.size)
    _draw_labels(draw, boxes, detections, order, canvas.size)
    return canvas


def require_own_image(image: ImageInput, detections: "Detections") -> RGBImage:
    """Pixels of the image that detections belong to.

    Raises:
        ValueError: the image has another size.
        TypeError: the image is of no accepted type.
    """
    pixels = as_rgb(image, detections.channel_order, detections.apply_orientation)
    height, width = pixels.shape[:2]
    if (height, width) != detections.image_size:
        raise ValueError(
            f"The image is {width}x{height} pixels, but the detections belong to one of "
            f"{detections.image_size[1]}x{detections.image_size[0]}. Pass the image that was given "
            "to the detector."
        )
    return pixels


def _to_canvas(
    xyxy: npt.NDArray[np.float32], image_size: tuple[int, int], canvas_size: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """Scale boxes (D, 4) to the drawing."""
    scale = np.array(canvas_size, dtype=np.float64) / image_size
    return xyxy.astype(np.float64) * np.tile(scale, 2)


def _visible_best_first(
    boxes: npt.NDArray[np.float64], scores: npt.NDArray[np.float32], canvas_size: tuple[int, int]
) -> list[int]:
    """Indices of the boxes that are at least partly in the drawing, highest score first."""
    visible = np.isfinite(boxes).all(axis=1)
    visible &= np.all(boxes[:, :2] < canvas_size, axis=1) & np.all(boxes[:, 2:] > 0, axis=1)
    order = np.argsort(-scores, kind="stable")
    return [int(i) for i in order[visible[order]]]


def _draw_boxes(
    draw: ImageDraw.ImageDraw,
    boxes: npt.NDArray[np.float64],
    detections: "Detections",
    order: list[int],
    canvas_size: tuple[int, int],
) -> None:
    """Draw the outlines inside the boxes, the best one on top."""
    line = _scaled(canvas_size, _LINE_FRACTION, _MIN_LINE)
    limit = np.array(canvas_size) - 1
    for i in reversed(order):
        # The pixels that a box covers run from x1 to x2 - 1.
        first = np.clip(boxes[i, :2].round(), 0, limit).astype(int)
        last = np.clip(boxes[i, 2:].round() - 1, first, limit).astype(int)
        # A thick line would hide a small object.
        shorter = int((last - first).min()) + 1
        draw.rectangle(
            [*first.tolist(), *last.tolist()],
            outline=class_color(int(detections.class_id[i])),
            width=min(line, max(1, shorter // 6)),
        )


def _draw_labels(
    draw: ImageDraw.ImageDraw,
    boxes: npt.NDArray[np.float64],
    detections: "Detections",
    order: list[int],
    canvas_size: tuple[int, int],
) -> None:
    """Place the labels best first, and draw them in the opposite order."""
    font_size = _scaled(canvas_size, _FONT_FRACTION, _MIN_FONT)
    placer = LabelPlacer(canvas_size)
    placed = []
    for i in order:
        name, score = _name(detections, i), f"{detections.confidence[i]:.0%}"
        label = fit_label(name, score, font_size, canvas_size)
        if label is not None:
            corner = placer.place(boxes[i], label.size)
            placed.append((corner, label, class_color(int(detections.class_id[i]))))
    for corner, label, color in reversed(placed):
        draw_label(draw, corner, label, color, text_color(color))


def draw_label(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    label: Label,
    background: Color | str,
    color: Color | str,
) -> None:
    """Draw a label whose top left corner is known."""
    (x, y), (width, height) = corner, label.size
    draw.rectangle([x, y, x + width - 1, y + height - 1], fill=background)
    origin = (x + label.offset[0], y + label.offset[1])
    draw.text(origin, label.text, fill=color, font=label.font)


def draw_dashed(
    draw: ImageDraw.ImageDraw,
    corners: tuple[float, float, float, float],
    color: Color | str,
    width: int,
) -> None:
    """Draw a dashed rectangle with corners (x1, y1, x2, y2), which are part of it."""
    left, top, right, bottom = corners
    for start in np.arange(left, right, 2 * _DASH).tolist():
        for y in (top, bottom):
            draw.line([start, y, min(start + _DASH, right), y], fill=color, width=width)
    for start in np.arange(top, bottom, 2 * _DASH).tolist():
        for x in (left, right):
            draw.line([x, start, x, min(start + _DASH, bottom)], fill=color, width=width)


def _name(detections: "Detections", index: int) -> str:
    """The name of an object's class, with the object's number if it has one."""
    name, numbers = detections.class_names[index], detections.tracker_id
    return name if numbers is None or numbers[index] < 0 else f"#{numbers[index]} {name}"


def _scaled(canvas_size: tuple[int, int], fraction: float, minimum: int) -> int:
    width, height = canvas_size
    return max(minimum, round(float(np.sqrt(width * height)) * fraction))


def text_color(background: Color) -> Color:
    """Return black or white, whichever has more contrast (WCAG 2.1's relative luminance)."""
    luminance = float(to_linear(background) @ [0.2126, 0.7152, 0.0722])
    # Black's contrast is (L + 0.05) / 0.05, white's 1.05 / (L + 0.05).
    return (0, 0, 0) if (luminance + 0.05) ** 2 > 0.05 * 1.05 else (255, 255, 255)
