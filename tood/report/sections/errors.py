"""What goes wrong: TIDE's error types, and the classes that have most of them."""

import math

import numpy as np

from ..content import EvaluatedSet
from ..drawings import ERROR_COLORS
from ..html import Markup, bar, integer, name, number, paragraph, swatch, table
from ..matching import ERROR_TYPES, MISSED
from ..wording import ERROR_MEANINGS, ERROR_TITLES

# Classes in the table of errors by class.
MAX_CLASSES = 15


def render(evaluated: EvaluatedSet) -> Markup:
    """The table of error types, and that of the classes with the most errors."""
    errors = evaluated.errors
    largest = max((gain for gain in errors.gains.values() if not math.isnan(gain)), default=0.0)
    rows = [
        [
            Markup(
                f"{swatch(ERROR_COLORS[kind])}{ERROR_TITLES[kind]}"
                f"<small>{ERROR_MEANINGS[kind]}</small>"
            ),
            number(errors.gains[kind], 2),
            bar(errors.gains[kind], largest, ERROR_COLORS[kind]),
            integer(errors.counts[kind]),
        ]
        for kind in ERROR_TYPES
    ]
    intro = (
        f"AP50 is {number(errors.ap50, 2)}. dAP is what it would gain if all errors of one type "
        "were fixed and nothing else: a correct class or box where that makes the detection right, "
        "otherwise no such detection; missed objects removed. Each type is fixed alone, so the "
        "gains do not add up. Definitions and thresholds are those of TIDE (Bolya et al., ECCV "
        "2020: t<sub>f</sub> 0.5, t<sub>b</sub> 0.1)."
    )
    special = (
        f"Without any false positive, AP50 would gain {number(errors.false_positive_gain, 2)}; "
        f"without any false negative, {number(errors.false_negative_gain, 2)}."
    )
    parts = [
        paragraph(Markup(intro)),
        table(["error", "dAP", "", "number"], rows, "errors"),
        paragraph(Markup(special)),
        _by_class(evaluated),
    ]
    return Markup("\n".join(parts))


def _by_class(evaluated: EvaluatedSet) -> Markup:
    """Errors of the classes at the best threshold: all detections would count noise."""
    dataset, rows, matches = evaluated.dataset, evaluated.rows, evaluated.matches
    threshold = evaluated.best_points[0].threshold
    num_classes = len(dataset.class_names)
    chosen = (rows.scores >= threshold) & (matches.error >= 0)
    counts = np.zeros((num_classes, len(ERROR_TYPES)), np.int64)
    np.add.at(counts, (rows.class_ids[chosen], matches.error[chosen]), 1)
    counts[:, MISSED] = np.bincount(dataset.class_ids[matches.gt_missed], minlength=num_classes)
    total = counts.sum(axis=1)
    order = [int(k) for k in np.argsort(-total, kind="stable")[:MAX_CLASSES] if total[k]]
    if not order or num_classes == 1:
        return Markup("")
    table_rows = [
        [name(dataset.class_names[k]), *map(integer, counts[k]), integer(evaluated.num_objects[k])]
        for k in order
    ]
    title = "Classes"
    if num_classes > len(order):
        title = f"The {len(order)} classes with the most errors"
    note = f"<b>{title}</b>, by the class of the detection, or of the object that was missed."
    if not math.isnan(threshold):
        note += f" Of the detections, those with a score of at least {number(threshold, 3)}."
    header = ["class", *(ERROR_TITLES[kind].lower() for kind in ERROR_TYPES), "GT boxes"]
    return Markup(f"{paragraph(Markup(note))}{table(header, table_rows)}")
