"""Every measured number of the pages lies in a result file, so that none goes stale."""

import re
from collections.abc import Iterable

import pytest

from tests.docs.not_measured import NOT_MEASURED
from tests.helpers import ROOT
from tools.docs import __main__ as program
from tools.docs.measured import BENCHMARKS, EXPERIMENTS, find_figure, update_page, used_in
from tools.docs.prose import Number, measured_numbers
from tools.docs.results import ResultError, read_results

GENERATED = ("docs/reference/config.md", "docs/reference/commands.md")
PAGES = [page for page in program.GENERATORS if page not in GENERATED]
RESULTS = read_results()

_TABLE = re.compile(r"<!-- (results:\S+|sources):begin -->\n(.*?)<!-- \1:end -->\n", re.S)


def read(page: str) -> str:
    return (ROOT / page).read_text()


def find_figures(page: str, text: str) -> list[tuple[str, re.Match[str]]]:
    """The texts of figures in the page, each with the name of its result file.

    Their numbers are the groups of the matches.
    """
    figures = [(name, f) for name, result in RESULTS.items() for f in result.figures]
    return [(name, find_figure(text, f.text)) for name, f in figures if f.page == page]


def numbers_without_source(page: str, text: str) -> list[Number]:
    """Measured numbers that no result file has, and that are not listed as something else."""
    patterns = NOT_MEASURED.get(page, {})
    spans = [match.span() for _, match in find_figures(page, text)]
    spans += [match.span() for pattern in patterns for match in re.finditer(pattern, text)]
    numbers = measured_numbers(text)
    return [n for n in numbers if not any(a <= n.start and n.end <= b for a, b in spans)]


def is_checked(page: str, text: str, names: Iterable[str] = RESULTS) -> bool:
    """Whether a page is what these result files say."""
    try:
        return update_page(text, page, {name: RESULTS[name] for name in names}) == text
    except ResultError:
        return False


def with_another_digit(text: str, place: int) -> str:
    return text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :]


@pytest.mark.parametrize("page", PAGES)
def test_numbers_are_in_a_result_file(page):
    found = numbers_without_source(page, read(page))
    lines = [f"{page}:{number.line}: {number.text}" for number in found]
    assert not lines, "add these to a file in docs/results/data, as CONTRIBUTING.md says"


@pytest.mark.parametrize("page", PAGES)
def test_another_digit_in_the_text_is_noticed(page):
    """Also where the changed number is another one of the page: places are compared, not sets.

    By the result files that have a figure there, because all of them take long.
    """
    text = _TABLE.sub("", read(page))
    assert is_checked(page, text)
    figures = [(name, *match.span()) for name, match in find_figures(page, text)]
    for number in measured_numbers(text):
        names = {name for name, a, b in figures if a <= number.start and number.end <= b}
        if not names:
            continue  # in NOT_MEASURED
        last = max(i for i in range(number.start, number.end) if text[i].isdigit())
        changed = with_another_digit(text, last)
        assert not is_checked(page, changed, names), f"{page}:{number.line}: {number.text}"


@pytest.mark.parametrize("page", PAGES)
def test_another_digit_in_a_table_is_noticed(page):
    text = read(page)
    for table in _TABLE.finditer(text):
        rows = list(re.finditer(r"^\|.*\d.*$", table[2], re.M))
        for row in (rows[len(rows) // 2], rows[-1]):
            start = table.start(2) + row.start()
            place = start + max(m.start() for m in re.finditer(r"\d", row[0]))
            assert not is_checked(page, with_another_digit(text, place)), row[0]


def test_the_text_is_rewritten_from_the_result_files():
    """``python -m tools.docs`` corrects a wrong digit."""
    for page in ("README.md", EXPERIMENTS):
        text = read(page)
        start, end = find_figures(page, text)[0][1].span(1)
        assert update_page(text[:start] + "12.75" + text[end:], page) == text


def test_what_is_not_measured_occurs():
    for page, patterns in NOT_MEASURED.items():
        for pattern in patterns:
            assert "|" not in re.sub(r"\\.", "", pattern), f"{page}: one pattern each: {pattern}"
            assert re.search(pattern, read(page)), f"{page}: {pattern} is no longer there"


def test_result_files_are_used():
    """Each has a table or a figure in a page, and every table of it is in one."""
    texts = {page: read(page) for page in PAGES}
    for name, result in RESULTS.items():
        assert any(used_in(result, page, text) for page, text in texts.items()), name
        for table in result.tables:
            marker = f"<!-- results:{name}/{table}:begin -->"
            assert any(marker in text for text in texts.values()), f"{name}: {table}"


def test_every_result_file_is_listed_once():
    listed = re.findall(r"\]\(data/([\w.-]+)\.json\)", read(BENCHMARKS) + read(EXPERIMENTS))
    assert sorted(listed) == sorted(RESULTS)


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "tools/README.md"])
def test_tests_are_not_counted_by_hand(page):
    """A count of tests is wrong after the next commit."""
    count = r"\b\d[\d ,]*\d\s+(?:\w+\s+)?(?:tests|test cases|skipped ones)\b"
    assert not re.findall(count, read(page))
