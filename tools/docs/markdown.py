"""Markdown tables and generated parts of files."""

import re
from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]], align: Sequence[str] = ()) -> str:
    """A Markdown table, without a line break at its end; "|" in cells is escaped.

    Args:
        header: names of the columns.
        rows: cells of each row.
        align: "left" or "right" for each column; all left by default.
    """
    lines = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    lines.insert(1, ["--:" if side == "right" else "---" for side in align or header])
    return "\n".join("|" + "".join(f" {cell} |" if cell else " |" for cell in row) for row in lines)


def replace_part(text: str, name: str, content: str) -> str:
    """Replace what stands between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``.

    Args:
        text: a Markdown file.
        name: of the part.
        content: without a line break at its end.

    Raises:
        ValueError: the markers are missing.
    """
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
    if begin not in text or end not in text:
        raise ValueError(f"{begin.strip()} or {end} is missing. Add both where {name} belongs.")
    pattern = f"{re.escape(begin)}.*?{re.escape(end)}"
    return re.sub(pattern, lambda _: f"{begin}{content}\n{end}", text, count=1, flags=re.S)
