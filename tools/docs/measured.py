"""Measured tables and figures in the pages, from the result files."""

import functools
import re

from tools import ROOT

from .markdown import replace_part, table
from .prose import VALUE, mask_blocks
from .results import (
    FOLDER,
    Result,
    ResultError,
    read_machines,
    read_results,
    table_rows,
    value_text,
)

BENCHMARKS, EXPERIMENTS = "docs/results/benchmarks.md", "docs/results/experiments.md"

_MARKER = re.compile(r"<!-- results:(?P<file>[\w.-]+)/(?P<table>[\w.-]+):begin -->")


def docs_pages() -> list[str]:
    """The pages in ``docs/``, as paths in the repository."""
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))


def update_page(text: str, page: str, results: dict[str, Result] | None = None) -> str:
    """A page with the numbers of the result files.

    Args:
        text: the page.
        page: its path in the repository.
        results: the result files; None for those of the repository.

    Raises:
        ResultError: the page lacks a figure's text, or a table that it shows does not exist.
    """
    results = read_results() if results is None else results
    for match in list(_MARKER.finditer(text)):
        text = replace_part(text, match[0][5:-10], _render(results, match["file"], match["table"]))
    for result in results.values():
        for figure in result.figures:
            if figure.page == page:
                values = [value_text(result, value) for value in figure.values]
                text = _replace_figure(text, figure.text, values, f"{result.name}.json: {page}")
    if "<!-- sources:begin -->" in text:
        text = replace_part(text, "sources", sources_table(page, text, results))
    return text


def _render(results: dict[str, Result], file: str, name: str) -> str:
    if file not in results or name not in results[file].tables:
        raise ResultError(f"There is no table {name} in {FOLDER.name}/{file}.json.")
    content = results[file].tables[name]
    return table(content.columns, table_rows(results[file], name), content.align)


@functools.cache
def figure_pattern(text: str) -> re.Pattern[str]:
    """What finds a figure's text in a page, with any numbers and line breaks."""
    parts = (r"\s+".join(map(re.escape, re.split(r"\s+", part))) for part in text.split("{}"))
    return re.compile(f"({VALUE})".join(parts))


def find_figure(page: str, text: str) -> re.Match[str]:
    """The one place of a page that has a figure's text.

    Raises:
        ResultError: there is none, or more than one.
    """
    found = list(figure_pattern(text).finditer(mask_blocks(page)))
    if len(found) != 1:
        problem = "is not in the page" if not found else f"is in {len(found)} places: add words"
        raise ResultError(f"the text {text!r} {problem}.")
    return found[0]


def _replace_figure(page: str, text: str, values: list[str], place: str) -> str:
    try:
        match = find_figure(page, text)
    except ResultError as error:
        raise ResultError(f"{place}: {error}") from None
    for index in reversed(range(len(values))):
        start, end = match.span(index + 1)
        if " ".join(page[start:end].split()) != values[index]:
            page = page[:start] + values[index] + page[end:]
    return page


def used_in(result: Result, page: str, text: str) -> bool:
    """Whether a page shows a table or a figure of a result file."""
    shown = {match["file"] for match in _MARKER.finditer(text)}
    return result.name in shown or any(figure.page == page for figure in result.figures)


def sources_table(page: str, text: str, results: dict[str, Result]) -> str:
    """The result files of a page: what, when, with which commit, and where.

    Args:
        page: its path; that of the benchmarks has all files that the experiments do not use.
        text: the page.
        results: the result files.
    """
    machines = read_machines()
    experiments = (ROOT / EXPERIMENTS).read_text()
    rows = []
    for name, result in results.items():
        of_page = used_in(result, page, text)
        if page == BENCHMARKS:
            of_page = not used_in(result, EXPERIMENTS, experiments)
        if of_page:
            link = f"[{result.title}](data/{name}.json)"
            rows.append((link, result.date, result.commit, machines[result.machine]["text"]))
    return table(("measurement", "date", "commit", "machine"), rows)
