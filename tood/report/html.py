"""HTML of the report: escaping, tables and numbers. Names from files stay text."""

import math
from collections.abc import Sequence
from html import escape

from ..data.findings import escape_unprintable

# Longer names are cut; the whole name is the tooltip.
MAX_NAME = 40
# What stands for a number that does not exist.
NOTHING = "–"  # noqa: RUF001


class Markup(str):
    """Text that is HTML already; everything else is escaped where it is used."""


def text(value: object) -> Markup:
    """Escape text, unless it is HTML already."""
    if isinstance(value, Markup):
        return value
    readable = str(value).encode("utf-8", "backslashreplace").decode()
    return Markup(escape(escape_unprintable(readable)))


def name(value: str) -> Markup:
    """A name of a class or file: escaped, and cut if it is long."""
    whole = text(value)
    readable = escape_unprintable(value.encode("utf-8", "backslashreplace").decode())
    if len(readable) <= MAX_NAME:
        return whole
    return Markup(f'<span title="{whole}">{escape(readable[: MAX_NAME - 1])}…</span>')


def number(value: float, digits: int = 1) -> Markup:
    """A number with a few digits, and all of them in its tooltip; a dash for NaN."""
    if math.isnan(value):
        return Markup(NOTHING)
    return Markup(f'<span title="{float(value)!r}">{value:.{digits}f}</span>')


def integer(value: float) -> Markup:
    """A whole number with separators."""
    return Markup(f"{int(value):,}".replace(",", "\u202f"))


def table(
    header: Sequence[object],
    rows: Sequence[Sequence[object]],
    kind: str = "",
    text_columns: int = 1,
) -> Markup:
    """A table that scrolls by itself where the screen is too narrow.

    Args:
        header: its first row.
        rows: of cells: HTML as `Markup`, anything else is escaped.
        kind: a CSS class.
        text_columns: how many columns, from the first, are text; the others are numbers.
    """

    def cell(tag: str, column: int, value: object) -> str:
        css = "" if column < text_columns else ' class="number"'
        return f"<{tag}{css}>{text(value)}</{tag}>"

    def line(tag: str, values: Sequence[object]) -> str:
        return "<tr>" + "".join(cell(tag, i, value) for i, value in enumerate(values)) + "</tr>"

    css = f' class="{kind}"' if kind else ""
    body = "\n".join(line("td", row) for row in rows)
    return Markup(
        f'<div class="scroll"><table{css}><thead>{line("th", header)}</thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def paragraph(content: object, kind: str = "") -> Markup:
    """A paragraph."""
    css = f' class="{kind}"' if kind else ""
    return Markup(f"<p{css}>{text(content)}</p>")


def figure(content: str, caption: object) -> Markup:
    """A drawing with a caption."""
    return Markup(f"<figure>{content}<figcaption>{text(caption)}</figcaption></figure>")


def grid(parts: Sequence[str]) -> Markup:
    """Drawings side by side, where there is room."""
    return Markup(f'<div class="grid">{"".join(parts)}</div>')


def folded(title: object, content: str) -> Markup:
    """A part that opens with a click."""
    return Markup(f"<details><summary>{text(title)}</summary>{content}</details>")


def swatch(color: str, dashed: bool = False) -> Markup:
    """A small square, or the frame of one, in a color."""
    style = f"border:2px dashed {color}" if dashed else f"background:{color}"
    return Markup(f'<span class="swatch" style="{style}"></span>')


def legend(entries: Sequence[str]) -> Markup:
    """Entries that are not torn apart at the end of a line."""
    return Markup(" ".join(f'<span class="key">{entry}</span>' for entry in entries))


def bar(value: float, largest: float, color: str) -> Markup:
    """A bar of a length relative to the largest one."""
    share = 0.0 if math.isnan(value) or largest <= 0 else 100 * value / largest
    style = f"width:{share:.1f}%;background:{color}"
    return Markup(f'<span class="track"><span class="bar" style="{style}"></span></span>')
