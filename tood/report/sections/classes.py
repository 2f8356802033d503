"""AP by class and size, and curves of precision and recall."""

import numpy as np
import numpy.typing as npt

from tood_runtime.colors import class_color

from ..charts import COLORS, drawing, sparkline
from ..coco import METRICS
from ..content import EvaluatedSet
from ..html import (
    Markup,
    figure,
    folded,
    grid,
    integer,
    legend,
    name,
    number,
    paragraph,
    swatch,
    table,
)

Floats = npt.NDArray[np.float64]

# Rows of the table of classes, from the lowest AP; the first are shown without a click.
MAX_ROWS = 500
OPEN_ROWS = 40
# Classes whose curves are drawn in one chart.
MAX_CURVES = 15
_RECALLS = np.linspace(0, 1, 101)
# The IoUs of the small curves in the table: positions in COCO's list, and colors.
_SMALL_CURVES = ((0, COLORS[0]), (5, COLORS[1]))


def render(evaluated: EvaluatedSet) -> Markup:
    """The table and the curves."""
    by_class = evaluated.coco.by_class
    # Lowest first; classes without GT boxes at the end.
    order = [int(k) for k in np.argsort(np.nan_to_num(by_class[:, 0], nan=1e9), kind="stable")]
    header = ["class", "GT", "AP", "AP50", "AP75", "small", "medium", "large"]
    header += ["score", "P", "R", "curve"]
    rows = [_row(evaluated, k) for k in order[:MAX_ROWS]]
    colors = legend([f"{swatch(color)}IoU {0.5 + 0.05 * i:g}" for i, color in _SMALL_CURVES])
    note = (
        "AP is averaged over IoUs of 0.5 to 0.95; small objects have an area below 32² pixels, "
        "large ones above 96². <i>score</i> is the threshold with the best F1 of the class at an "
        f"IoU of 0.5, with its precision P and recall R. Curves of precision over recall: {colors}"
    )
    parts = [_overall_curves(evaluated), paragraph(Markup(note))]
    parts.append(table(header, rows[:OPEN_ROWS], "classes"))
    if rows[OPEN_ROWS:]:
        rest = table(header, rows[OPEN_ROWS:], "classes")
        parts.append(folded(f"{len(rows) - OPEN_ROWS} classes with a higher AP", rest))
    if len(order) > MAX_ROWS:
        parts.append(paragraph(f"{len(order) - MAX_ROWS} more classes are not shown.", "note"))
    return Markup("\n".join(parts))


def _row(evaluated: EvaluatedSet, k: int) -> list[object]:
    point = evaluated.best_points[1][k]
    class_name = evaluated.dataset.class_names[k]
    curves = [evaluated.coco.curves[i, :, k] for i, _ in _SMALL_CURVES]
    return [
        name(class_name),
        integer(evaluated.num_objects[k]),
        *(number(evaluated.coco.by_class[k, i]) for i in range(len(METRICS))),
        number(point.threshold, 2),
        number(point.precision, 2),
        number(point.recall, 2),
        sparkline(curves, [color for _, color in _SMALL_CURVES], f"PR curve of {class_name}"),
    ]


def _overall_curves(evaluated: EvaluatedSet) -> Markup:
    curves = evaluated.coco.curves
    known = np.flatnonzero(~np.isnan(curves[0, 0]))
    if not len(known):
        return paragraph("There are no curves without detections.", "note")
    entries = []
    with drawing("Precision over recall, mean of the classes", "recall", "precision") as chart:
        for i in range(len(curves)):
            mean = curves[i][:, known].mean(axis=1)
            if i in (0, 5, 9):
                color = COLORS[(0, 5, 9).index(i)]
                chart.line(_RECALLS, mean, "", color)
                entries.append(f"{swatch(color)}IoU {0.5 + 0.05 * i:.2f}")
            else:
                chart.line(_RECALLS, mean, "", "#888888", linewidth=0.7, alpha=0.7)
        _set_limits(chart.axes)
    entries.append(f"{swatch('#888888')}between")
    parts = [figure(chart.svg, Markup(f"<b>All classes.</b> {legend(entries)}"))]
    if 1 < len(known) <= MAX_CURVES:
        parts.append(_class_curves(evaluated, known))
    parts.append(_size_chart(evaluated))
    return grid(parts)


def _class_curves(evaluated: EvaluatedSet, known: npt.NDArray[np.int64]) -> Markup:
    entries = []
    with drawing("Precision over recall by class", "recall", "precision") as chart:
        for k in known.tolist():
            color = "#{:02x}{:02x}{:02x}".format(*class_color(k))
            chart.line(_RECALLS, evaluated.coco.curves[0, :, k], "", color)
            entries.append(f"{swatch(color)}{name(evaluated.dataset.class_names[k])}")
        _set_limits(chart.axes)
    return figure(chart.svg, Markup(f"<b>By class at IoU 0.50.</b> {legend(entries)}"))


def _size_chart(evaluated: EvaluatedSet) -> Markup:
    """AP by size, with the number of GT boxes of each."""
    dataset = evaluated.dataset
    areas = dataset.areas[~dataset.is_crowd]
    # COCO's ranges include both of their limits.
    limits = ((0, 32**2), (32**2, 96**2), (96**2, np.inf))
    counts = [int(((areas >= low) & (areas <= high)).sum()) for low, high in limits]
    values = [evaluated.coco.overall[metric] for metric in METRICS[3:]]
    with drawing("AP by object size", "object size (GT boxes)", "AP") as chart:
        sizes = zip(("small", "medium", "large"), counts, strict=True)
        names = [f"{size}\n({n})" for size, n in sizes]
        heights = np.nan_to_num(np.array(values))
        bars = chart.axes.bar(names, heights, color=COLORS[0], width=0.6)
        for rectangle, value in zip(bars, values, strict=True):
            label = "no GT" if np.isnan(value) else f"{value:.1f}"
            x = rectangle.get_x() + rectangle.get_width() / 2
            chart.axes.text(x, rectangle.get_height() + 1, label, ha="center", va="bottom")
        chart.axes.set_ylim(0, 105)
        chart.axes.grid(axis="x", visible=False)
    return figure(chart.svg, Markup("<b>By size.</b> Areas below 32², up to 96², and above."))


def _set_limits(axes: object) -> None:
    axes.set_xlim(0, 1)  # type: ignore[attr-defined]
    axes.set_ylim(0, 1.02)  # type: ignore[attr-defined]
