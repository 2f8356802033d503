"""Result files: the measurements in ``docs/results/data``, which the pages show.

A file is one measurement, JSON with these fields:

========  =======================================================================================
title     what was measured
command   command lines that repeat it
commit    of the code that was measured; of older numbers, the commit that added them to a page
date      of the measurement, YYYY-MM-DD
machine   a name in ``machines.json``
versions  packages and their versions; "unknown" where nobody wrote them down
notes     what else a reader has to know, optional
runs      raw numbers by run and metric, as ``tools.experiments`` writes them; optional
tables    by name; optional
figures   numbers in running text; optional
========  =======================================================================================

A table has ``columns`` and ``rows``, optionally ``align`` ("left" or "right"), ``metrics`` and
``digits``, each one value per column. A row is a list of texts, or ``{"cells": [...], "runs":
[...]}``: its last columns are then computed from the runs' ``metrics``, as mean and standard
deviation with ``digits``. A figure has ``page``, ``text`` with a ``{}`` for each number, and
``values``: a text, a cell ``["table", "row", "column"]`` for the first number that it shows, or
``{"ratio": [cell or number, cell or number], "digits": 2}`` of such numbers; the other kinds are in
:data:`DERIVED`; or ``{"total": ["table", "column"]}`` of a column of integers. Rows are named by
their first cell, columns by their name; indices work for both.
"""

import datetime
import functools
import json
import math
import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tools import ROOT

from .prose import VALUE

FOLDER = ROOT / "docs" / "results" / "data"
MACHINES = "machines.json"
UNKNOWN = "unknown"

# How figures are derived from other numbers: the mean from a cell with "mean ± deviation"; the
# percentages say by how much the first is larger, or smaller, than the second.
DERIVED: dict[str, Callable[..., float]] = {
    "mean": lambda value: value,
    "sum": lambda first, second: first + second,
    "ratio": lambda first, second: first / second,
    "difference": lambda first, second: first - second,
    "percent": lambda first, second: 100 * (first / second - 1),
    "percent_less": lambda first, second: 100 * (1 - first / second),
}


class ResultError(ValueError):
    """A result file is wrong, or does not fit its page; the message says how to fix it."""


@dataclass(frozen=True)
class Table:
    """A table of a result file; see the module's docstring."""

    columns: list[str]
    rows: list[list[str] | dict[str, list[str]]]
    align: list[str] = field(default_factory=list)
    metrics: list[str | None] = field(default_factory=list)
    digits: list[int | None] = field(default_factory=list)


@dataclass(frozen=True)
class Figure:
    """Numbers in the running text of a page; see the module's docstring."""

    page: str
    text: str
    values: list[Any]


@dataclass(frozen=True)
class Result:
    """One result file; see the module's docstring."""

    name: str
    title: str
    command: list[str]
    commit: str
    date: str
    machine: str
    versions: dict[str, str]
    notes: str = ""
    runs: dict[str, dict[str, float]] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)


def read_machines(folder: Path = FOLDER) -> dict[str, dict[str, str]]:
    """The machines by name, each with a short ``text`` and details."""
    return json.loads((folder / MACHINES).read_text())


@functools.cache
def read_results(folder: Path = FOLDER) -> dict[str, Result]:
    """All result files by name (that of the file, without .json).

    Raises:
        ResultError: a file is wrong.
    """
    machines = read_machines(folder)
    paths = sorted(path for path in folder.glob("*.json") if path.name != MACHINES)
    return {path.stem: read_result(path, machines) for path in paths}


def read_result(path: Path, machines: dict[str, Any]) -> Result:
    """Read and check a result file.

    Args:
        path: of the file.
        machines: those that it may name.

    Raises:
        ResultError: a field is missing, unknown or malformed.
    """
    try:
        content = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ResultError(f"{path.name} is not JSON: {error}") from None
    _check_fields(path.name, content, Result, given=("name",))
    for name, table in content.get("tables", {}).items():
        _check_fields(f"{path.name}, table {name}", table, Table)
    for index, figure in enumerate(content.get("figures", [])):
        _check_fields(f"{path.name}, figure {index}", figure, Figure)
    content["tables"] = {key: Table(**value) for key, value in content.get("tables", {}).items()}
    content["figures"] = [Figure(**figure) for figure in content.get("figures", [])]
    result = Result(name=path.stem, **content)
    _check_origin(result, machines)
    for name, table in result.tables.items():
        _check_table(f"{path.name}, table {name}", table, result.runs)
    for figure in result.figures:
        if figure.text.count("{}") != len(figure.values) or not figure.values:
            raise ResultError(
                f"{path.name}: {figure.text!r} needs one {{}} for each of its values."
            )
    return result


def _check_fields(place: str, content: Any, kind: type, given: tuple[str, ...] = ()) -> None:
    if not isinstance(content, dict):
        raise ResultError(f"{place} must be an object, with the fields of {kind.__name__}.")
    known = {f.name: f for f in fields(kind) if f.name not in given}
    unknown = ", ".join(sorted(set(content) - set(known)))
    if unknown:
        raise ResultError(f"{place} has unknown fields: {unknown}. Available: {', '.join(known)}.")
    needed = list(known)[: 6 if kind is Result else 3 if kind is Figure else 2]
    missing = ", ".join(name for name in needed if name not in content)
    if missing:
        raise ResultError(f"{place} lacks: {missing}. Write 'unknown' for what nobody knows.")


def _check_origin(result: Result, machines: dict[str, Any]) -> None:
    file = f"{result.name}.json"
    if not re.fullmatch(rf"[0-9a-f]{{7,40}}|{UNKNOWN}", result.commit):
        raise ResultError(f"{file}: commit {result.commit!r} is not a hash of at least 7 digits.")
    try:
        datetime.date.fromisoformat(result.date)
    except ValueError:
        raise ResultError(f"{file}: date {result.date!r} is not written as 2026-11-26.") from None
    if result.machine not in machines:
        names = ", ".join(machines)
        raise ResultError(f"{file}: {result.machine!r} is not in {MACHINES}. Available: {names}.")
    texts = [result.title, *result.command, *result.versions, *result.versions.values()]
    if (
        not result.command
        or not result.versions
        or not all(text and text.strip() for text in texts)
    ):
        raise ResultError(f"{file}: title, command and versions must not be empty.")


def _check_table(place: str, table: Table, runs: dict[str, dict[str, float]]) -> None:
    width = len(table.columns)
    for name in ("align", "metrics", "digits"):
        if len(getattr(table, name)) not in (0, width):
            raise ResultError(f"{place}: {name} needs a value for each of {width} columns.")
    for row in table.rows:
        if isinstance(row, list):
            if len(row) != width or not all(isinstance(cell, str) for cell in row):
                raise ResultError(f"{place}: row {row[:1]} needs {width} cells, all texts.")
            continue
        if (
            set(row) != {"cells", "runs"}
            or not row["runs"]
            or not table.metrics
            or not table.digits
        ):
            raise ResultError(
                f"{place}: rows of runs need cells, runs, and the table's metrics and digits."
            )
        missing = [run for run in row["runs"] if run not in runs]
        if missing:
            raise ResultError(f"{place}: there is no run {missing[0]!r}. Add it to runs.")


def format_spread(values: list[float], digits: int) -> str:
    """Mean and sample standard deviation over runs; the value itself of a single run."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def table_rows(result: Result, name: str) -> list[list[str]]:
    """The rows of a table as the page shows them, those of runs computed."""
    table = result.tables[name]
    rows = []
    for row in table.rows:
        if isinstance(row, list):
            rows.append(row)
            continue
        cells = list(row["cells"])
        runs = [result.runs[run] for run in row["runs"]]
        start = len(cells)
        for metric, digits in zip(table.metrics[start:], table.digits[start:], strict=True):
            # A column without a metric is empty in such a row.
            values = [run[metric] for run in runs if metric in run] if metric else []
            if values and len(values) < len(runs):
                raise ResultError(
                    f"{result.name}.json: only {len(values)} of {row['runs']} have {metric}."
                )
            if values and not all(math.isfinite(value) for value in values):
                raise ResultError(f"{result.name}.json: {metric} of {row['runs']} is not finite.")
            cells.append(format_spread(values, digits or 0) if values else "")
        rows.append(cells)
    return rows


def cell_text(result: Result, table: str, row: str | int, column: str | int) -> str:
    """What a cell shows.

    Args:
        result: of the table.
        table: its name.
        row: its first cell, which must be unique, or its index.
        column: its name, or its index where names repeat.

    Raises:
        ResultError: there is no such cell, or more than one.
    """
    try:
        rows, columns = table_rows(result, table), result.tables[table].columns
        if isinstance(row, str):
            (found,) = (cells for cells in rows if cells[0] == row)
        else:
            found = rows[row]
        if isinstance(column, str):
            (column,) = (i for i, name in enumerate(columns) if name == column)
        return found[column]
    except (KeyError, IndexError, ValueError):
        cell = f"{table}, {row}, {column}"
        raise ResultError(f"{result.name}.json has no single cell {cell}: use indices.") from None


def value_text(result: Result, value: Any) -> str:
    """A figure's value as the page shows it.

    Raises:
        ResultError: it is malformed, or names a cell that does not exist.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        text = cell_text(result, *value)
        match = re.search(VALUE, text)
        if match is None:
            raise ResultError(f"{result.name}.json: {value} shows {text!r}, which is not a number.")
        return match[0]
    if set(value) == {"total"}:
        return _total(result, *value["total"])
    kind = next((key for key in value if key in DERIVED), None)
    if kind is None or set(value) != {kind, "digits"}:
        kinds = ", ".join(DERIVED)
        raise ResultError(f"{result.name}.json: {value} needs digits and one of: {kinds}.")
    parts = (_number(value_text(result, p)) if isinstance(p, list) else p for p in value[kind])
    return f"{DERIVED[kind](*parts):.{value['digits']}f}"


def _total(result: Result, table: str, column: str) -> str:
    """The sum of a column of integers, with a comma from 10,000 on."""
    if table not in result.tables:
        raise ResultError(f"{result.name}.json has no table {table}.")
    rows = range(len(result.tables[table].rows))
    total = sum(int(cell_text(result, table, row, column)) for row in rows)
    return f"{total:,}" if total >= 10_000 else str(total)


def _number(text: str) -> float:
    """The mean of "1.2 ± 0.3", or the number 1200 of "1 200" and "1,200"."""
    return float(text.split(" ±")[0].replace(" ", "").replace(",", ""))
