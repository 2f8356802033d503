r"""Put the raw numbers of finished runs into a result file of the documentation.

python -m tools.docs.add_runs lite0_bccd output/bccd-lite0/results.json

The numbers are those that programs of tools.experiments write: {run: {metric: value}}. A run that
the file has already is an error unless its numbers are the same. Then name the runs in the rows of
the file's table, and run python -m tools.docs.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .results import FOLDER, ResultError, read_machines, read_result


def format_result(content: dict[str, Any]) -> str:
    """A result file as text; each row, run and figure has a line, so that diffs are short."""

    def lines(values: Sequence[str], indent: int, brackets: str) -> str:
        inner = ",\n".join(" " * (indent + 2) + value for value in values)
        return f"{brackets[0]}\n{inner}\n{' ' * indent}{brackets[1]}"

    def entries(values: dict[str, Any]) -> list[str]:
        return [f"{text(key)}: {text(value)}" for key, value in values.items()]

    def text(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    parts = []
    for key, value in content.items():
        shown = text(value)
        if key in ("command", "figures"):
            shown = lines([text(item) for item in value], 2, "[]")
        elif key == "runs":
            shown = lines(entries(value), 2, "{}")
        elif key == "tables":
            tables = []
            for name, table in value.items():
                fields = {k: v for k, v in table.items() if k != "rows"}
                rows = lines([text(row) for row in table["rows"]], 6, "[]")
                fields_and_rows = [*entries(fields), f'"rows": {rows}']
                tables.append(f"{text(name)}: {lines(fields_and_rows, 4, '{}')}")
            shown = lines(tables, 2, "{}")
        parts.append(f"{text(key)}: {shown}")
    return lines(parts, 0, "{}") + "\n"


def add_runs(path: Path, runs: dict[str, dict[str, float]]) -> None:
    """Add runs to a result file.

    Args:
        path: of the result file.
        runs: numbers by run and metric.

    Raises:
        ResultError: the file has other numbers for one of the runs, or is wrong.
    """
    content = json.loads(path.read_text())
    known = content.setdefault("runs", {})
    for name, numbers in runs.items():
        if known.get(name, numbers) != numbers:
            raise ResultError(f"{path.name} has other numbers for {name!r}. Rename one of them.")
        known[name] = numbers
    text = format_result(content)
    with tempfile.TemporaryDirectory() as folder:  # checked before the file is changed
        new = Path(folder, path.name)
        new.write_text(text)
        read_result(new, read_machines(path.parent))
    path.write_text(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Add the runs of files; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.docs.add_runs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", help="of the file in docs/results/data, without .json")
    parser.add_argument("files", nargs="+", type=Path, metavar="results.json")
    args = parser.parse_args(arguments)
    try:
        for file in args.files:
            add_runs(FOLDER / f"{args.name}.json", json.loads(file.read_text()))
    except (ResultError, OSError) as error:
        print(f"error: {error}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
