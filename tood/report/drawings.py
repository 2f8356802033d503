"""The images with the most mistakes, with GT boxes and detections drawn on them."""

import base64
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from tood_runtime.drawing import draw_dashed, draw_label
from tood_runtime.image_io import ImageReadError, read_image
from tood_runtime.image_writing import encode_image
from tood_runtime.labels import LabelPlacer, fit_label

from .content import EvaluatedSet
from .html import Markup, paragraph
from .matching import (
    BACKGROUND,
    BOTH,
    CLASSIFICATION,
    DUPLICATE,
    FALSE_POSITIVE,
    LOCALIZATION,
    MISSED,
    TRUE_POSITIVE,
)

# The longer side of a drawing, in pixels.
IMAGE_SIDE = 640
# Wrong detections that are drawn in one image, from the highest score.
MAX_DRAWN = 40
_FONT_SIZE = 16
# Characters of a class name in a label.
_MAX_NAME = 20
_LINE = 3

RIGHT_COLOR = "#2ca02c"
GT_COLOR = "#ffffff"
ERROR_COLORS = {
    CLASSIFICATION: "#e6820e",
    LOCALIZATION: "#1f9bff",
    BOTH: "#a569e0",
    DUPLICATE: "#c9b700",
    BACKGROUND: "#e0312f",
    MISSED: "#ff5fd2",
}

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ImageMistakes:
    """What is wrong in an image at a score threshold.

    Attributes:
        image: its position in the dataset.
        cost: the sum of the scores of wrong detections, plus the number of GT boxes not found.
        wrong: rows of detections that are errors, from the highest score.
        right: rows of true positives.
        not_found: rows of GT boxes without a true positive.
    """

    image: int
    cost: float
    wrong: Ints
    right: Ints
    not_found: Ints


def worst_images(evaluated: EvaluatedSet, count: int) -> list[ImageMistakes]:
    """The images with the highest cost at the best score threshold, from the worst."""
    dataset, rows, matches = evaluated.dataset, evaluated.rows, evaluated.matches
    chosen = rows.scores >= evaluated.best_points[0].threshold
    is_wrong = chosen & (matches.status == FALSE_POSITIVE)
    is_right = chosen & (matches.status == TRUE_POSITIVE)
    not_found = ~dataset.is_crowd
    not_found[matches.gt[is_right]] = False
    cost = np.bincount(rows.image_index, rows.scores * is_wrong, minlength=len(dataset))
    cost = cost + np.bincount(dataset.image_index, not_found, minlength=len(dataset))
    offsets = rows.offsets(len(dataset))
    worst = []
    for image in np.argsort(-cost, kind="stable")[:count].tolist():
        if cost[image] <= 0:
            break
        found = np.arange(offsets[image], offsets[image + 1])
        gt = np.arange(dataset.offsets[image], dataset.offsets[image + 1])
        worst.append(
            ImageMistakes(
                image,
                float(cost[image]),
                found[is_wrong[found]],
                found[is_right[found]],
                gt[not_found[gt]],
            )
        )
    return worst


def draw_mistakes(evaluated: EvaluatedSet, mistakes: ImageMistakes) -> Image.Image:
    """Draw an image: correct detections green, errors in their colors, GT boxes dashed.

    Raises:
        ImageReadError: it is missing, or cannot be decoded.
    """
    dataset, rows = evaluated.dataset, evaluated.rows
    image = mistakes.image
    pixels = read_image(dataset.file_names[image], evaluated.apply_exif, min_side=IMAGE_SIDE)
    canvas = Image.fromarray(pixels)
    width, height = int(dataset.widths[image]), int(dataset.heights[image])
    ratio = IMAGE_SIDE / max(width, height)
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    canvas = canvas.resize(size, Image.Resampling.BICUBIC)
    scale = np.array(size * 2) / (width, height, width, height)
    draw = ImageDraw.Draw(canvas)
    labels: list[tuple[npt.NDArray[np.float64], str, str, str]] = []
    gt = np.arange(dataset.offsets[image], dataset.offsets[image + 1])
    for row in gt[~np.isin(gt, mistakes.not_found)].tolist():
        draw_dashed(draw, _corners(dataset.boxes[row] * scale), GT_COLOR, width=1)
    for row in mistakes.right.tolist():
        _draw_box(draw, rows.boxes[row] * scale, RIGHT_COLOR)
    for row in mistakes.wrong[:MAX_DRAWN][::-1].tolist():
        color = ERROR_COLORS[int(evaluated.matches.error[row])]
        _draw_box(draw, rows.boxes[row] * scale, color)
        class_name = dataset.class_names[rows.class_ids[row]]
        labels.append((rows.boxes[row] * scale, class_name, f"{rows.scores[row]:.2f}", color))
    for row in mistakes.not_found.tolist():
        draw_dashed(draw, _corners(dataset.boxes[row] * scale), ERROR_COLORS[MISSED], _LINE)
        class_name = dataset.class_names[dataset.class_ids[row]]
        labels.append((dataset.boxes[row] * scale, class_name, "", ERROR_COLORS[MISSED]))
    _draw_labels(draw, labels, size)
    return canvas


def _corners(box: npt.NDArray[np.float64]) -> tuple[float, float, float, float]:
    x, y, width, height = box.tolist()
    return x, y, max(x, x + width - 1), max(y, y + height - 1)


def _draw_box(draw: ImageDraw.ImageDraw, box: npt.NDArray[np.float64], color: str) -> None:
    draw.rectangle(_corners(box), outline=color, width=_LINE)


def _draw_labels(
    draw: ImageDraw.ImageDraw,
    labels: list[tuple[npt.NDArray[np.float64], str, str, str]],
    size: tuple[int, int],
) -> None:
    """Class and score next to each box; GT boxes have no score."""
    placer = LabelPlacer(size)
    for box, class_name, score, color in labels:
        if len(class_name) > _MAX_NAME:
            class_name = f"{class_name[: _MAX_NAME - 1]}…"
        label = fit_label(class_name, score, _FONT_SIZE, size)
        if label is None:
            continue
        corner = placer.place(np.array(_corners(box)), label.size)
        draw_label(draw, corner, label, color, "#000000")


def image_tag(evaluated: EvaluatedSet, mistakes: ImageMistakes) -> Markup:
    """The drawing as part of the page, or a sentence that says why there is none."""
    try:
        drawn = draw_mistakes(evaluated, mistakes)
    except (ImageReadError, UnicodeError) as error:  # or a name that no file can have
        return paragraph(str(error), "missing")
    data = base64.b64encode(encode_image(drawn, ".jpg")).decode()
    return Markup(
        f'<img alt="" width="{drawn.width}" height="{drawn.height}" '
        f'src="data:image/jpeg;base64,{data}">'
    )
