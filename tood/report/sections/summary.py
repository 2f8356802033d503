"""The first thing to read: AP, the best iteration, the phase, and what was evaluated."""

import math

from ..coco import METRICS
from ..content import EvaluatedSet, Report, RunFacts
from ..html import Markup, integer, name, number, paragraph, table
from ..wording import ERROR_CAUSES
from .curves import switch_words

_TITLES = {
    "AP": "AP",
    "AP50": "AP50",
    "AP75": "AP75",
    "APs": "AP small",
    "APm": "AP medium",
    "APl": "AP large",
}


def render(report: Report) -> Markup:
    """Cards of the first set's AP, a table if there are several sets, and facts of the run."""
    parts = [_cards(report.sets[0])] if len(report.sets) == 1 else [_set_table(report.sets)]
    several = len(report.sets) > 1
    parts += [_findings(x, f"{name(x.name)}: " if several else "") for x in report.sets]
    parts += [_other_results(report), _facts(report)]
    return Markup("\n".join(parts))


def _cards(evaluated: EvaluatedSet) -> Markup:
    cards = "".join(
        f'<div class="card{" main" if metric == "AP" else ""}"><b>'
        f"{number(evaluated.coco.overall[metric])}</b><span>{_TITLES[metric]}</span></div>"
        for metric in METRICS
    )
    return Markup(f'<div class="cards">{cards}</div>')


def _set_table(sets: list[EvaluatedSet]) -> Markup:
    rows = [
        [name(evaluated.name), *(number(evaluated.coco.overall[metric]) for metric in METRICS)]
        for evaluated in sets
    ]
    return table(["test set", *_TITLES.values()], rows)


def _other_results(report: Report) -> Markup:
    """AP of what was evaluated too: test-time augmentation, weights without their average."""
    shown = {"bbox", *(f"{evaluated.name}/bbox" for evaluated in report.sets)}
    groups: dict[str, dict[str, float]] = {}
    for key, value in report.run.results.items():
        group, _, metric = key.rpartition("/")
        if metric in METRICS and group not in shown:
            groups.setdefault(group, {})[metric] = value
    if not groups:
        return Markup("")
    rows = [
        [name(group), *(number(values.get(metric, math.nan)) for metric in METRICS)]
        for group, values in groups.items()
    ]
    return table(["evaluated too", *_TITLES.values()], rows)


def _findings(evaluated: EvaluatedSet, which: str) -> Markup:
    """One sentence about what costs the most."""
    if not evaluated.num_detections:
        return paragraph(Markup(f"{which}<b>The model detected nothing.</b>"), "lead")
    gains = {
        kind: gain
        for kind, gain in evaluated.errors.gains.items()
        if not math.isnan(gain) and gain > 0
    }
    order = sorted(gains, key=lambda kind: -gains[kind])[:2]
    if not order:
        return paragraph(Markup(f"{which}There are no errors at an IoU of 0.5."), "lead")
    costs = ", then to ".join(
        f"<b>{ERROR_CAUSES[kind]}</b> ({gains[kind]:.1f} points of AP50)" for kind in order
    )
    return paragraph(Markup(f"{which}Most is lost to {costs}."), "lead")


def _facts(report: Report) -> Markup:
    rows: list[list[object]] = []
    for evaluated in report.sets:
        which = f" of {evaluated.name}" if len(report.sets) > 1 else ""
        dataset = evaluated.dataset
        if evaluated.name and len(report.sets) == 1:
            rows.append(["Test set", evaluated.name])
        crowds = int(dataset.is_crowd.sum())
        counts = (
            f"{integer(len(dataset))} with {integer(dataset.num_boxes - crowds)} GT boxes"
            + (f" and {integer(crowds)} ignored regions" if crowds else "")
            + f" of {integer(len(dataset.class_names))} classes"
        )
        rows.append([f"Images{which}", Markup(counts)])
        per_image = evaluated.num_detections / len(dataset)
        rows.append(
            [
                f"Detections{which}",
                Markup(f"{integer(evaluated.num_detections)}, {per_image:.1f} per image"),
            ]
        )
    rows += _training_facts(report.run)
    rows += [[key, value] for key, value in report.run.facts.items()]
    return table(["", ""], rows, "facts", text_columns=2)


def _training_facts(run: RunFacts) -> list[list[object]]:
    if not run.metrics:
        return []
    metrics = run.metrics
    rows: list[list[object]] = [["Last iteration", integer(metrics.last_iteration)]]
    if metrics.phase:
        switch = metrics.phase_switch
        since = f"; it began {switch_words(switch)}" if switch is not None else ""
        rows.append(["Phase at the end", Markup(f"{_phase(metrics.phase)}{since}")])
    names = [run.best_metric] if run.best_metric in metrics.scalars else metrics.names("bbox/AP")
    for metric in names:
        best = metrics.best(metric)
        if best is None:
            continue
        iterations, values = metrics.curve(metric)
        last = f"; last {number(values[-1], 2)} at {integer(iterations[-1])}"
        again = last if iterations[-1] != best[0] else ", the last evaluation"
        value = Markup(f"{number(best[1], 2)} at iteration {integer(best[0])}{again}")
        rows.append([f"Best {metric}", value])
    return rows


def _phase(phase: str) -> str:
    return {"aligned": "aligned (task alignment learning)", "warmup": "ATSS warm-up"}[phase]
