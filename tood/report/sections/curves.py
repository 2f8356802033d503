"""Curves of the training: losses, AP and learning rate, with the switch of the phase."""

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from ...evaluation.loss_evaluator import RESULT_GROUP
from ..charts import COLORS, Chart, drawing
from ..content import RunFacts
from ..html import Markup, figure, grid, integer, legend, paragraph, swatch, text
from ..metrics import MetricsLog

_LOSSES = re.compile(r"loss_\w+|total_loss")
# Curves of AP that are drawn, from the first.
_MAX_CURVES = 8
_VALIDATION_STYLE: dict[str, Any] = {"linestyle": "--", "marker": "o", "markersize": 3}


def render(run: RunFacts) -> Markup:
    """The curves that ``metrics.json`` has."""
    if run.metrics is None:
        return paragraph("There is no metrics.json of a training.", "note")
    if not run.metrics:
        return paragraph("metrics.json is empty.", "note")
    parts = [_losses(run.metrics), _ap(run), _learning_rate(run.metrics)]
    return grid([part for part in parts if part]) or paragraph("There are no curves.", "note")


def _losses(metrics: MetricsLog) -> Markup:
    names = [name for name in metrics.scalars if _LOSSES.fullmatch(name)]
    names.sort(key=lambda name: name != "total_loss")
    validation = metrics.names(f"{RESULT_GROUP}/total_loss")
    if not names and not validation:
        return Markup("")
    entries = []
    with drawing("Losses by iteration", "iteration", "loss") as chart:
        for name, color in zip([*names, *validation], COLORS * 9, strict=False):
            style = _VALIDATION_STYLE if name in validation else {}
            chart.line(*metrics.curve(name), name, color, **style)
            entries.append(f"{swatch(color)}{text(name)}")
        _limit(chart, [metrics.curve(name)[1] for name in [*names, *validation]])
        _mark_switch(chart, metrics)
    note = _switch_note(metrics)
    return figure(chart.svg, Markup(f"<b>Losses.</b> {legend(entries)}{note}"))


def _limit(chart: Chart, curves: list[npt.NDArray[np.float64]]) -> None:
    """Leave out the peaks of the first iterations, which would flatten everything after them."""
    values = np.concatenate(curves)
    values = values[np.isfinite(values)]
    if len(values) > 20:
        top, low = float(np.quantile(values, 0.98)), float(values.min())
        if values.max() > 2 * top > 0:
            chart.axes.set_ylim(min(0.0, low), 1.5 * top)
            return
    if len(values) and values.min() >= 0:
        chart.axes.set_ylim(bottom=0)


def _mark_switch(chart: Chart, metrics: MetricsLog) -> None:
    switch = metrics.phase_switch
    if switch is not None:
        chart.mark(switch[1], "aligned phase")


def _switch_note(metrics: MetricsLog) -> str:
    switch = metrics.phase_switch
    if switch is None:
        return ""
    return (
        f"<br>The aligned phase began {switch_words(switch)}; the losses of the two phases cannot "
        "be compared."
    )


def switch_words(switch: tuple[int, int]) -> str:
    """When the phase switched, as exactly as the log says."""
    first, last = switch
    if first == last:
        return f"at iteration {integer(last)}"
    return f"between iterations {integer(first)} and {integer(last)}"


def _ap(run: RunFacts) -> Markup:
    metrics = run.metrics
    assert metrics is not None
    names = metrics.names("bbox/AP") + metrics.names("bbox_TTA/AP")
    names += metrics.names("bbox/AP50") + metrics.names("bbox/AP75")
    if run.best_metric in metrics.scalars and run.best_metric not in names:
        names.insert(0, run.best_metric)
    shown = [name for name in names if np.isfinite(metrics.curve(name)[1]).any()]
    if not shown:
        return Markup("")
    entries = []
    with drawing("AP by iteration", "iteration", "AP") as chart:
        for name, color in zip(shown[:_MAX_CURVES], COLORS, strict=False):
            chart.line(*metrics.curve(name), name, color, marker="o", markersize=3)
            entries.append(f"{swatch(color)}{text(name)}")
        best = metrics.best(run.best_metric)
        if best is not None:
            chart.axes.plot(*best, marker="*", markersize=11, color=COLORS[1], zorder=5)
            entries.append(f"★ best {text(run.best_metric)}")
        start = min(float(metrics.curve(name)[0][0]) for name in shown)
        chart.axes.set_xlim(left=min(0.0, start))
        _mark_switch(chart, metrics)
    more = len(shown) - _MAX_CURVES
    rest = f" ({more} more are not shown)" if more > 0 else ""
    return figure(chart.svg, Markup(f"<b>Evaluations.</b> {legend(entries)}{rest}"))


def _learning_rate(metrics: MetricsLog) -> Markup:
    if "lr" not in metrics.scalars:
        return Markup("")
    with drawing("Learning rate by iteration", "iteration", "learning rate") as chart:
        chart.line(*metrics.curve("lr"), "lr", COLORS[0])
        chart.axes.set_ylim(bottom=0)
        _mark_switch(chart, metrics)
    return figure(chart.svg, Markup("<b>Learning rate.</b>"))
