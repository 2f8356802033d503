"""The confusion matrix, and the most frequent confusions."""

import math

import numpy as np
import numpy.typing as npt

from ..confusion import largest_confusions, most_confused_classes, reduce_matrix
from ..content import EvaluatedSet
from ..html import Markup, integer, name, number, paragraph, table, text

# With more classes, the matrix shows those with the most confusions.
MAX_CLASSES = 20
MAX_PAIRS = 15


def render(evaluated: EvaluatedSet) -> Markup:
    """The matrix and the list."""
    matrix = evaluated.confusion
    names = evaluated.dataset.class_names
    threshold = evaluated.best_points[0].threshold
    least = "" if math.isnan(threshold) else f" with a score of at least {number(threshold, 3)}"
    shown = np.arange(len(names))
    which = ""
    if len(names) > MAX_CLASSES:
        shown = most_confused_classes(matrix, MAX_CLASSES)
        which = (
            f" Of {len(names)} classes, the {MAX_CLASSES} with the most confusions are shown, and "
            "the <i>others</i> together."
        )
    intro = (
        f"Rows are the classes of the objects, columns those of the detections{least}, at an IoU "
        "of 0.5. In the row <i>background</i> are detections of nothing, and further detections "
        "of objects that another one has found; in the column <i>background</i>, objects that were "
        f"not found.{which}"
    )
    parts = [paragraph(Markup(intro)), _matrix_table(matrix, names, shown)]
    pairs = largest_confusions(matrix, MAX_PAIRS)
    if pairs:
        rows = [[name(names[gt]), name(names[found]), integer(n)] for gt, found, n in pairs]
        parts.append(paragraph(Markup("<b>Most frequent confusions</b>")))
        parts.append(table(["object", "detected as", "number"], rows, text_columns=2))
    return Markup("\n".join(parts))


def _matrix_table(
    matrix: npt.NDArray[np.int64], names: list[str], shown: npt.NDArray[np.int64]
) -> Markup:
    reduced = reduce_matrix(matrix, shown)
    labels = [name(names[k]) for k in shown.tolist()]
    labels += [Markup("<i>others</i>")] if len(shown) < len(names) else []
    labels.append(Markup("<i>background</i>"))
    head = "".join(f"<th><span>{label}</span></th>" for label in labels)
    lines = [f"<tr><th></th>{head}</tr>"]
    for k, (row, label) in enumerate(zip(reduced, labels, strict=True)):
        cells = [_cell(int(n), int(row.sum()), k == j) for j, n in enumerate(row)]
        lines.append(f"<tr><th><span>{label}</span></th>{''.join(cells)}</tr>")
    return Markup(f'<div class="scroll"><table class="matrix">{"".join(lines)}</table></div>')


def _cell(count: int, total: int, is_right: bool) -> str:
    if not count:
        return "<td></td>"
    share = count / total
    color = "44,160,44" if is_right else "224,49,47"
    style = f"background:rgba({color},{0.1 + 0.6 * share:.2f})"
    return f'<td style="{style}" title="{text(f"{share:.1%} of the row")}">{integer(count)}</td>'
