"""Tables and bars of the HTML page about datasets. All text in them is escaped."""

from collections.abc import Mapping, Sequence
from html import escape

from ..data.checking import DatasetReport
from ..data.findings import one_line
from ..data.size_checks import HISTOGRAM_LIMITS, PERCENTILES, SizeSummary

# Classes that bars are drawn of.
_MAX_CLASSES = 200


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of text and numbers, all escaped; every column but the first is of numbers."""

    def cell(tag: str, column: int, value: object) -> str:
        kind = ' class="number"' if column else ""
        return f"<{tag}{kind}>{escape(str(value))}</{tag}>"

    lines = [("th", header), *(("td", row) for row in rows)]
    body = (
        "<tr>" + "".join(cell(tag, i, value) for i, value in enumerate(row)) + "</tr>"
        for tag, row in lines
    )
    return f"<table>{''.join(body)}</table>"


def class_histogram(reports: Mapping[str, DatasetReport]) -> str:
    """Bars of the number of boxes of each class, the most frequent first."""
    counts = {name: report.class_counts for name, report in reports.items()}
    totals: dict[str, int] = {}
    for name in dict.fromkeys(name for part in counts.values() for name in part):
        totals[name] = sum(part.get(name, 0) for part in counts.values())
    order = sorted(totals, key=lambda name: -totals[name])
    most = max(1, *(n for part in counts.values() for n in part.values()))
    rows = []
    for name in order[:_MAX_CLASSES]:
        bars = "<br>".join(_bar(part.get(name, 0), most, split) for split, part in counts.items())
        rows.append(f"<tr><td>{escape(one_line(name))}</td><td>{bars}</td></tr>")
    rest = len(order) - _MAX_CLASSES
    more = f"<p>{rest} classes with fewer boxes are not shown.</p>" if rest > 0 else ""
    return f"<table><tr><th>class</th><th>boxes</th></tr>{''.join(rows)}</table>{more}"


def _bar(count: int, most: int, split: str) -> str:
    width = 32 * count / most
    return f'<span class="bar {split}" style="width:{width:.2f}rem"></span> {split} {count}'


def size_charts(reports: Mapping[str, DatasetReport]) -> str:
    """A table of sizes at the input sizes of the model, and a histogram of each set."""
    summaries = [(name, s) for name, report in reports.items() for s in report.sizes]
    header = ["set", "small", "medium", "large", *(f"{p} %" for p in PERCENTILES)]
    rows = [
        [f"{name} at {s.name}", s.small, s.medium, s.large, *(f"{x:.1f}" for x in s.percentiles)]
        for name, s in summaries
    ]
    text = (
        "<p>At the input size of the model, in pixels. Small objects have an area below 32² "
        "pixels, medium ones below 96². Percentiles are of the square root of the area.</p>"
    )
    histograms = [_size_histogram(name, summary) for name, summary in summaries]
    return text + table(header, rows) + _levels(summaries) + "".join(histograms)


def _levels(summaries: Sequence[tuple[str, SizeSummary]]) -> str:
    if not summaries or summaries[0][1].without_point is None:
        return ""
    strides = list(summaries[0][1].per_level)
    header = ["set", *(f"stride {s}" for s in strides), "no anchor point", "nor if flipped"]
    rows = [
        [f"{name} at {s.name}", *s.per_level.values(), s.without_point, s.without_point_flipped]
        for name, s in summaries
    ]
    text = (
        "<p>Objects by the level whose anchors are nearest to them in size, and those that "
        "contain no anchor point of any level, so that they get no positive.</p>"
    )
    return text + table(header, rows)


def _size_histogram(name: str, summary: SizeSummary) -> str:
    """Bars of how many objects have which size, as a table."""
    most = max(1, *summary.histogram)
    limits = [f"{limit:.0f}" for limit in HISTOGRAM_LIMITS]
    labels = [f"below {limits[0]}", *map("{} to {}".format, limits, limits[1:])]
    labels.append(f"above {limits[-1]}")
    shown = [index for index, count in enumerate(summary.histogram) if count]
    rows = (
        "".join(
            f'<tr><td class="number">{labels[index]}</td>'
            f"<td>{_bar(summary.histogram[index], most, name)}</td></tr>"
            for index in range(shown[0], shown[-1] + 1)
        )
        if shown
        else ""
    )
    title = escape(f"{name} at {summary.name}")
    return f"<h3>{title}</h3><table><tr><th>√area</th><th>objects</th></tr>{rows}</table>"
