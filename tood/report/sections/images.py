"""The images with the most mistakes."""

import math
import os
from collections import Counter

from ..content import EvaluatedSet
from ..drawings import ERROR_COLORS, GT_COLOR, RIGHT_COLOR, ImageMistakes, image_tag, worst_images
from ..html import Markup, figure, legend, number, paragraph, swatch, text
from ..matching import ERROR_TYPES, MISSED
from ..wording import ERROR_TITLES


def render(evaluated: EvaluatedSet, count: int) -> Markup:
    """Drawings of the worst images.

    Args:
        evaluated: the set.
        count: how many are drawn.
    """
    worst = worst_images(evaluated, count)
    if not worst:
        return paragraph("There is no image with a mistake.", "note")
    entries = [f"{swatch(RIGHT_COLOR)}correct", f"{swatch(GT_COLOR, True)}its GT box"]
    entries += [
        f"{swatch(ERROR_COLORS[kind])}{ERROR_TITLES[kind].lower()}"
        for kind in ERROR_TYPES
        if kind != MISSED
    ]
    entries.append(f"{swatch(ERROR_COLORS[MISSED], True)}GT box that was not found")
    threshold = evaluated.best_points[0].threshold
    intro = (
        "The images are sorted by the scores of their wrong detections plus the number of objects "
        "that were not found."
    )
    if not math.isnan(threshold):
        intro = (
            f"Detections with a score of at least {number(threshold, 3)}, the threshold with the "
            f"best F1. {intro}"
        )
    figures = [figure(image_tag(evaluated, x), _caption(evaluated, x)) for x in worst]
    return Markup(
        f"{paragraph(Markup(intro))}"
        f'<p class="legend">{legend(entries)}</p>'
        f'<div class="images">{"".join(figures)}</div>'
    )


def _caption(evaluated: EvaluatedSet, mistakes: ImageMistakes) -> Markup:
    dataset = evaluated.dataset
    kinds = Counter(evaluated.matches.error[mistakes.wrong].tolist())
    words = [f"{len(mistakes.right)} correct"]
    words += [f"{kinds[x]} {ERROR_TITLES[x].lower()}" for x in ERROR_TYPES if kinds[x]]
    words += [f"{len(mistakes.not_found)} not found"] if len(mistakes.not_found) else []
    size = f"{dataset.widths[mistakes.image]}×{dataset.heights[mistakes.image]}"  # noqa: RUF001
    path = dataset.file_names[mistakes.image]
    title = f'<b title="{text(path)}">{text(os.path.basename(path))}</b>'
    return Markup(f"{title} ({size})<br>{', '.join(words)}")
