"""Drawings of training batches: the images as the model gets them, with their ground truth."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from detectron2.data.detection_utils import convert_image_to_rgb
from detectron2.structures import Instances, PolygonMasks, polygons_to_bitmask
from PIL import Image, ImageDraw

from tood_runtime.colors import class_color
from tood_runtime.drawing import draw_dashed, draw_label, text_color
from tood_runtime.fonts import choose_font
from tood_runtime.labels import LabelPlacer, fit_label
from tood_runtime.mask_drawing import draw_masks
from tood_runtime.masks import Masks

from ..data.findings import one_line

# Longer side of an image of the batch's size in the drawing, in pixels.
CELL_SIDE = 640
_GAP, _CAPTION_HEIGHT = 8, 22
_FONT_SIZE, _CAPTION_FONT = 13, 14
_LINE, _RADIUS = 2, 4
# COCO's visibility of a keypoint that is seen; 1 is one that is hidden.
_VISIBLE = 2
# What the model pads with, and what is no part of any image.
_PADDING_COLOR, _BACKGROUND = (60, 60, 60), (255, 255, 255)

Sample = Mapping[str, Any]


def draw_batch(
    batch: Sequence[Sample], image_format: str, class_names: Sequence[str]
) -> Image.Image:
    """Draw the images of a batch side by side, all at one scale.

    Boxes have the color of their class and its name. Crowds, which are not trained on, are dashed,
    crossed by a line and called "crowd". Masks are tinted. Keypoints are dots with their number,
    from 0; those that are hidden are rings. Dark areas are what the model pads.

    Args:
        batch: what `tood.data.mapper.DetectionMapper` returns for each image; with ``crowds``, they
            are drawn too.
        image_format: ``INPUT.FORMAT``.
        class_names: by class index.
    """
    height, width = (max(sample["image"].shape[axis] for sample in batch) for axis in (1, 2))
    scale = CELL_SIDE / max(height, width)
    cell = max(1, round(width * scale)), max(1, round(height * scale))
    columns = math.ceil(math.sqrt(len(batch)))
    if cell[0] > 2 * cell[1]:
        columns = max(1, columns - 1)
    rows = math.ceil(len(batch) / columns)
    step = cell[0] + _GAP, cell[1] + _GAP + _CAPTION_HEIGHT
    grid = Image.new("RGB", (columns * step[0] + _GAP, rows * step[1] + _GAP), _BACKGROUND)
    draw = ImageDraw.Draw(grid)
    for number, sample in enumerate(batch):
        x, y = number % columns * step[0] + _GAP, number // columns * step[1] + _GAP
        grid.paste(_PADDING_COLOR, (x, y, x + cell[0], y + cell[1]))
        grid.paste(_draw_image(sample, image_format, class_names, scale), (x, y))
        caption = fit_label(_caption(sample), "", _CAPTION_FONT, (cell[0], _CAPTION_HEIGHT))
        if caption is not None:
            origin = (x + caption.offset[0], y + cell[1] + caption.offset[1])
            draw.text(origin, caption.text, fill=(0, 0, 0), font=caption.font)
    return grid


def _caption(sample: Sample) -> str:
    height, width = sample["image"].shape[1:]
    name = os.path.basename(str(sample.get("file_name", "")))
    # Long names are cut at their end, so what is sure to be short comes first.
    return f"{width}x{height}, {len(sample['instances'])} boxes: {one_line(name)}"


def _draw_image(
    sample: Sample, image_format: str, class_names: Sequence[str], scale: float
) -> Image.Image:
    """An image with its boxes, enlarged by ``scale``."""
    pixels = convert_image_to_rgb(sample["image"].permute(1, 2, 0), image_format)
    canvas = Image.fromarray(np.ascontiguousarray(pixels.astype(np.uint8)))
    size = (max(1, round(canvas.width * scale)), max(1, round(canvas.height * scale)))
    canvas = canvas.resize(size, Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.BOX)
    _draw_masks(canvas, sample["instances"])
    draw = ImageDraw.Draw(canvas)
    placer = LabelPlacer(canvas.size)
    groups: list[tuple[Instances, str]] = [(sample["instances"], "")]
    if "crowds" in sample:
        groups.append((sample["crowds"], "crowd"))
    labels = []
    for instances, mark in groups:
        boxes = instances.gt_boxes.tensor.numpy().astype(np.float64) * scale
        for box, class_id in zip(boxes, instances.gt_classes.tolist(), strict=True):
            color = class_color(class_id)
            _draw_box(draw, box, color, is_crowd=bool(mark))
            label = fit_label(one_line(class_names[class_id]), mark, _FONT_SIZE, canvas.size)
            if label is not None:
                labels.append((placer.place(box, label.size), label, color))
    for corner, label, color in reversed(labels):
        draw_label(draw, corner, label, color, text_color(color))
    _draw_keypoints(draw, sample["instances"], scale)
    return canvas


def _draw_masks(canvas: Image.Image, instances: Instances) -> None:
    """Tint the masks of the ground truth, if there are any."""
    if not instances.has("gt_masks"):
        return
    found, (height, width) = instances.gt_masks, instances.image_size
    if isinstance(found, PolygonMasks):
        arrays = [polygons_to_bitmask(polygons, height, width) for polygons in found.polygons]
    else:
        arrays = list(found.tensor.numpy())
    masks = Masks.from_arrays([array.astype(np.bool_) for array in arrays], (height, width))
    colors = [class_color(class_id) for class_id in instances.gt_classes.tolist()]
    draw_masks(canvas, masks, range(len(masks)), colors, line=_LINE)


def _draw_keypoints(draw: ImageDraw.ImageDraw, instances: Instances, scale: float) -> None:
    """Mark the labeled keypoints of the ground truth, if there are any."""
    if not instances.has("gt_keypoints"):
        return
    font = choose_font("0", _FONT_SIZE)
    rows = instances.gt_keypoints.tensor.tolist()
    for keypoints, class_id in zip(rows, instances.gt_classes.tolist(), strict=True):
        color = class_color(class_id)
        for number, (x, y, visibility) in enumerate(keypoints):
            if visibility <= 0:
                continue
            x, y = x * scale, y * scale
            circle = [x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS]
            draw.ellipse(circle, fill=color if visibility == _VISIBLE else None, outline=color)
            draw.text((x + _RADIUS + 1, y - _RADIUS - 2), str(number), fill=color, font=font)


def _draw_box(
    draw: ImageDraw.ImageDraw,
    box: npt.NDArray[np.float64],
    color: tuple[int, int, int],
    is_crowd: bool,
) -> None:
    x1, y1 = (int(value) for value in box[:2].round())
    x2, y2 = (max(int(b), a) for a, b in zip((x1, y1), box[2:].round() - 1, strict=True))
    if not is_crowd:
        draw.rectangle([x1, y1, x2, y2], outline=color, width=_LINE)
        return
    draw_dashed(draw, (x1, y1, x2, y2), color, width=_LINE)
    draw.line([x1, y1, x2, y2], fill=color)
