"""Whether scores can be read as probabilities."""

import numpy as np

from ..calibration import NUM_BINS
from ..charts import COLORS, drawing
from ..content import EvaluatedSet
from ..html import Markup, figure, grid, integer, number, paragraph, swatch, table


def render(evaluated: EvaluatedSet) -> Markup:
    """The reliability diagram, the best threshold and the table of bins."""
    calibration = evaluated.calibration
    overall = evaluated.best_points[0]
    if not calibration.counts.sum():
        return paragraph("There are no detections.", "note")
    edges = np.arange(NUM_BINS + 1) / NUM_BINS
    with drawing("Precision by score", "score", "precision at IoU 0.50") as chart:
        heights = np.nan_to_num(calibration.precisions)
        centers = edges[:-1] + 0.5 / NUM_BINS
        chart.axes.bar(centers, heights, width=0.9 / NUM_BINS, color=COLORS[0], alpha=0.75)
        chart.axes.plot([0, 1], [0, 1], color=COLORS[6], linestyle="--", linewidth=1)
        filled = calibration.counts > 0
        chart.axes.plot(
            calibration.mean_scores[filled],
            calibration.precisions[filled],
            color=COLORS[1],
            marker="o",
            markersize=4,
        )
        chart.axes.set_xlim(0, 1)
        chart.axes.set_ylim(0, 1.02)
    caption = (
        f"<b>Reliability.</b> {swatch(COLORS[0])}precision of a bin {swatch(COLORS[1])}over its "
        f"mean score. {swatch(COLORS[6])}A calibrated detector lies on the diagonal; above it, "
        "scores are too low."
    )
    rows = [
        [
            f"{edges[i]:.1f} to {edges[i + 1]:.1f}",
            integer(calibration.counts[i]),
            number(calibration.mean_scores[i], 3),
            number(calibration.precisions[i], 3),
        ]
        for i in range(NUM_BINS)
    ]
    bins = table(["score", "detections", "mean score", "precision"], rows)
    intro = (
        f"The expected calibration error (ECE) is <b>{number(calibration.error, 3)}</b>: the "
        "distance between score and precision, averaged over all detections. The score threshold "
        f"with the best F1 ({number(overall.f1, 3)}) is <b>{number(overall.threshold, 3)}</b>, "
        f"with a precision of {number(overall.precision, 3)} and a recall of "
        f"{number(overall.recall, 3)}. Task alignment trains scores to tell how well class and box "
        "fit together, so they need not be probabilities."
    )
    return Markup(f"{paragraph(Markup(intro))}{grid([figure(chart.svg, Markup(caption)), bins])}")
