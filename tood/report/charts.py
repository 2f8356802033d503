"""Charts as SVG text inside the page, in the colors of the page."""

import io
import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

from .html import Markup, text

Floats = npt.NDArray[np.float64]

# Told apart on white and on black, by people with color vision deficiencies too (Okabe and Ito,
# slightly darker where white would hide them).
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#7f7f7f", "#8c564b")

# Stands for the color of the page's text until the SVG is written.
_INK = "#010203"
_SIZE = (4.8, 2.9)  # inches: at 1:1 on a phone
_MAX_POINTS = 600

_STYLE: dict[Any, Any] = {
    "axes.edgecolor": _INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": _INK,
    "axes.prop_cycle": cycler(color=COLORS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "grid.alpha": 0.15,
    "grid.color": _INK,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "lines.linewidth": 1.4,
    "svg.fonttype": "none",
    "text.color": _INK,
    "text.parse_math": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
}

_numbers = itertools.count()


class Chart:
    """A chart that is being drawn.

    Attributes:
        axes: matplotlib's.
        svg: the drawing, after the ``with`` statement of `drawing`.
    """

    def __init__(self, axes: Axes) -> None:
        self.axes = axes
        self.svg = Markup("")

    def line(self, x: Floats, y: Floats, label: str, color: str, **style: Any) -> None:
        """Draw a line, of means where there are too many points."""
        x, y = thin_out(x, y)
        if len(x) == 1:
            style = {"marker": "o", "markersize": 4, **style}
        self.axes.plot(x, y, label=label, color=color, **style)

    def mark(self, x: float, label: str) -> None:
        """Draw a vertical line with a label at its top."""
        self.axes.axvline(x, color=_INK, linewidth=0.9, linestyle=(0, (4, 3)), alpha=0.7)
        transform = self.axes.get_xaxis_transform()
        self.axes.text(x, 1.01, label, transform=transform, ha="center", va="bottom", fontsize=8)


@contextmanager
def drawing(
    title: str, x_label: str, y_label: str, size: tuple[float, float] = _SIZE
) -> Iterator[Chart]:
    """Draw a chart, whose ``svg`` is there afterwards.

    Args:
        title: for programs that read the page aloud.
        x_label: of the horizontal axis.
        y_label: of the vertical one.
        size: in inches.
    """
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": title}):
        figure = Figure(figsize=size, layout="constrained")
        chart = Chart(figure.add_subplot())
        chart.axes.set_xlabel(x_label)
        chart.axes.set_ylabel(y_label)
        yield chart
        chart.svg = _to_svg(figure, title)


def _to_svg(figure: Figure, title: str) -> Markup:
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)
    content = buffer.getvalue()
    content = content[content.index("<svg") :]
    view = re.search(r'viewBox="[^"]*"', content)
    start = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'class="chart" role="img" aria-label="{text(title)}" '
        f"{view[0] if view else ''}>"
    )
    content = start + content[content.index(">") + 1 :]
    # The ids of several drawings in one page must differ.
    prefix = f"c{next(_numbers)}-"
    content = re.sub(r'\bid="', f'id="{prefix}', content)
    content = re.sub(r'href="#', f'href="#{prefix}', content)
    content = content.replace("url(#", f"url(#{prefix}")
    content = re.sub(r"<!--.*?-->\s*", "", content, flags=re.S)
    content = re.sub(r"\s*<metadata>.*?</metadata>", "", content, flags=re.S)
    return Markup(content.replace(_INK, "currentColor"))


def thin_out(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Replace more than 600 points by means of neighbors; NaN counts in none."""
    if len(x) <= _MAX_POINTS:
        return x, y
    parts = np.array_split(np.arange(len(x)), _MAX_POINTS)
    means = [y[part][np.isfinite(y[part])] for part in parts]
    return (
        np.array([x[part].mean() for part in parts]),
        np.array([part.mean() if len(part) else np.nan for part in means]),
    )


def sparkline(curves: Sequence[Floats], colors: Sequence[str], label: str) -> Markup:
    """A tiny drawing of curves between 0 and 1 at evenly spaced places, such as a table's cell."""
    width, height = 96, 32
    lines = []
    for curve, color in zip(curves, colors, strict=True):
        if np.isnan(curve).any():
            continue
        kept = np.linspace(0, len(curve) - 1, min(len(curve), 51)).round().astype(int)
        points = " ".join(
            f"{width * i / (len(curve) - 1):.1f},{height * (1 - curve[i]):.1f}" for i in kept
        )
        lines.append(f'<polyline points="{points}" stroke="{color}"/>')
    return Markup(
        f'<svg class="spark" role="img" aria-label="{text(label)}" '
        f'viewBox="-1 -1 {width + 2} {height + 2}" fill="none">'
        f'<path d="M0 0V{height}H{width}" stroke="currentColor" stroke-opacity=".35"/>'
        f"{''.join(lines)}</svg>"
    )
