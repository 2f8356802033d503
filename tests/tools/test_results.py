"""Result files of the documentation: what is wrong in them is named, and pages follow them."""

import copy
import json
import re

import pytest

from tools.docs import add_runs, measured
from tools.docs.prose import measured_numbers
from tools.docs.results import (
    MACHINES,
    ResultError,
    cell_text,
    read_result,
    table_rows,
    value_text,
)

PAGE = "docs/results/benchmarks.md"
CONTENT = {
    "title": "Time of a case",
    "command": ["python -m tools.benchmark"],
    "commit": "a23ba6c",
    "date": "2026-11-26",
    "machine": "cpu",
    "versions": {"torch": "2.15.0"},
    "runs": {
        "x/1": {"AP": 50.0, "error": 3.0}, "x/2": {"AP": 52.0, "error": 3.8},
        "x/3": {"AP": 57.0, "error": 4.4}, "y/2": {"AP": 52.0},
    },
    "tables": {
        "times": {
            "columns": ["case", "ms", "MiB"],
            "align": ["left", "right", "right"],
            "rows": [["head", "12.5", "1 200"], ["model", "50.0", "-"]],
        },
        "counts": {"columns": ["", "cases"], "rows": [["a", "1249"], ["b", "9000"]]},
        "seeds": {
            "columns": ["", "seeds", "AP", "error"],
            "metrics": [None, None, "AP", "error"],
            "digits": [None, None, 1, 0],
            "rows": [
                {"cells": ["x", "1, 2, 3"], "runs": ["x/1", "x/2", "x/3"]},
                {"cells": ["y", "2"], "runs": ["y/2"]},
                ["z", "unknown", "40.0 ± 0.5", ""],
            ],
        },
    },
    "figures": [
        {"page": PAGE, "text": "the head takes {} ms", "values": [["times", "head", "ms"]]},
    ],
}  # fmt: skip


@pytest.fixture
def content():
    return copy.deepcopy(CONTENT)


@pytest.fixture
def read(tmp_path):
    """Writes a result file and reads it."""

    def write_and_read(content):
        (tmp_path / MACHINES).write_text('{"cpu": {"text": "two CPU cores"}}')
        (tmp_path / "case.json").write_text(json.dumps(content))
        return read_result(tmp_path / "case.json", {"cpu": {"text": "two CPU cores"}})

    return write_and_read


def test_rows_of_runs_are_means_and_deviations(content, read):
    """The mean of 50, 52 and 57 is 53; their sample deviation is sqrt((9 + 1 + 16) / 2) = 3.6."""
    rows = table_rows(read(content), "seeds")
    assert rows[0] == ["x", "1, 2, 3", "53.0 ± 3.6", "4 ± 1"]
    assert rows[1] == ["y", "2", "52.0", ""]
    assert rows[2] == ["z", "unknown", "40.0 ± 0.5", ""]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0.90", "0.90"),
        (["times", "head", "ms"], "12.5"),
        (["times", 0, 2], "1 200"),
        (["seeds", "x", "AP"], "53.0 ± 3.6"),
        ({"mean": [["seeds", "z", "AP"]], "digits": 0}, "40"),
        ({"sum": [["times", "head", "MiB"], 0.5], "digits": 1}, "1200.5"),
        ({"ratio": [["times", "head", "ms"], ["times", "model", "ms"]], "digits": 2}, "0.25"),
        ({"difference": [["seeds", "z", "AP"], ["seeds", "x", "AP"]], "digits": 1}, "-13.0"),
        ({"percent": [["times", "model", "ms"], ["times", "head", "ms"]], "digits": 0}, "300"),
        ({"percent_less": [["times", "head", "ms"], 50], "digits": 0}, "75"),
        ({"total": ["counts", "cases"]}, "10,249"),
        ({"sum": [["counts", "b", "cases"], 1], "digits": 0}, "9001"),
    ],
)
def test_figures_are_derived_from_cells(content, read, value, text):
    assert value_text(read(content), value) == text


def edited(content, path, value):
    """The content with another value at a path of keys; DELETE removes it."""
    *parents, last = path
    inner = content
    for key in parents:
        inner = inner[key]
    if value is DELETE:
        del inner[last]
    else:
        inner[last] = value
    return content


DELETE = object()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["machine"], DELETE, r"lacks: machine\. Write 'unknown'"),
        (["config"], [], "unknown fields: config"),
        (["machine"], "gpu", r"'gpu' is not in machines.json. Available: cpu"),
        (["date"], "26 November 2026", "date '26 November 2026' is not written as"),
        (["commit"], "main", "commit 'main' is not a hash"),
        (["command"], [], "must not be empty"),
        (["versions", "torch"], "", "must not be empty"),
        (["tables", "times", "rows", 0], ["head", "1"], r"row \['head'\] needs 3 cells"),
        (["tables", "times", "rows", 0, 1], 12.5, r"row \['head'\] needs 3 cells, all texts"),
        (["tables", "times", "align"], ["left"], "align needs a value for each of 3"),
        (["tables", "times", "columns"], DELETE, "table times lacks: columns"),
        (["tables", "seeds", "rows", 1, "runs"], ["x/4"], "no run 'x/4'"),
        (["tables", "seeds", "rows", 1, "runs"], [], "rows of runs need cells, runs"),
        (["figures", 0, "values"], ["1", "2"], r"needs one \{\} for each"),
        (["figures", 0, "page"], DELETE, "figure 0 lacks: page"),
    ],
)
def test_what_is_wrong_is_named(content, read, path, value, message):
    with pytest.raises(ResultError, match=message) as error:
        read(edited(content, path, value))
    assert "case.json" in str(error.value)


def test_numbers_that_are_not_finite_are_refused(content, read):
    result = read(edited(content, ["runs", "x/2", "AP"], float("nan")))
    with pytest.raises(ResultError, match="AP of .* is not finite"):
        table_rows(result, "seeds")


def test_a_mean_is_over_all_of_its_runs(content, read):
    del content["runs"]["x/2"]["AP"]
    with pytest.raises(ResultError, match="of .* have AP"):
        table_rows(read(content), "seeds")


def test_cells_and_values_that_do_not_exist(content, read):
    content["tables"]["times"]["rows"][1][0] = "head"
    result = read(content)
    for cell in (("times", "head", "ms"), ("times", 5, "ms"), ("times", 0, "s"), ("x", 0, 0)):
        with pytest.raises(ResultError, match="no single cell"):
            cell_text(result, *cell)
    with pytest.raises(ResultError, match="has no table count"):
        value_text(result, {"total": ["count", "cases"]})
    for value in ({"product": [1, 2], "digits": 1}, {"ratio": [1, 2]}):
        with pytest.raises(ResultError, match="needs digits and one of: mean, sum, ratio"):
            value_text(result, value)
    with pytest.raises(ResultError, match="'-', which is not a number"):
        value_text(result, ["times", 1, "MiB"])


TEXT = """On a CPU the head takes 12.5
ms.

<!-- results:case/times:begin -->
| case | ms | MiB |
| --- | --: | --: |
| head | 12.5 | 1 200 |
| model | 50.0 | - |
<!-- results:case/times:end -->

```text
the head takes 99 ms
```
"""


def test_pages_follow_their_files(content, read):
    results = {"case": read(content)}
    assert measured.update_page(TEXT, PAGE, results) == TEXT
    for old, new in (("12.5\nms", "13\nms"), ("1 200", "1 300"), ("| model | 50.0 | - |\n", "")):
        assert measured.update_page(TEXT.replace(old, new), PAGE, results) == TEXT
    assert measured.update_page("A text.\n", "README.md", results) == "A text.\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("the head takes 12.5", "the head needs 12.5", "is not in the page"),
        ("12.5\nms.", "12.5\nms. Really: the head takes 12.5 ms.", "is in 2 places: add words"),
        ("case/times", "case/memory", "no table memory in data/case.json"),
        ("case/times", "cases/times", "no table times in data/cases.json"),
    ],
)
def test_pages_that_do_not_fit(content, read, old, new, message):
    with pytest.raises(ResultError, match=message):
        measured.update_page(TEXT.replace(old, new), PAGE, {"case": read(content)})


def test_measured_numbers():
    text = """Takes 0.71x the time, 128 against 179 ms, 123, 174 and 182 MB; 779 ms instead of
308. Scores agree to 3e-14, AP rises by 4 AP to 56.2 ± 1.5, and 300
000 ms is 12 % more. It loses -0.6. AP50 79.4.
24,750 were read, with the default settings in 14.2 ms, 1,234 ms, 10-20 ms or 12ms each.
"""
    found = [number.text for number in measured_numbers(text)]
    assert found == ["0.71", "128", "179", "123", "174", "182", "779", "308", "3e-14", "4", "56.2",
                     "1.5", "300 000", "12", "-0.6", "79.4", "24,750", "14.2", "1,234", "10", "20",
                     "12"]  # fmt: skip


def test_numbers_that_are_not_measured():
    text = """MMDetection 3.3.0, torch 2.15.0, Python 3.11, section 4.3, 640x480, 2x, seed 1, R50,
8 images of 160 pixels, `x 0.5`, [a](b/0.5.md), `KEY` (0.05), threshold (default 0.3), 0.3.1, IoU of
at least 0.5, on 2026-11-26, 12 epochs (default: 2 s).
<!-- 0.5 -->
<!-- a:begin -->
0.5
<!-- a:end -->
```text
0.5 ms
```
"""
    assert not list(measured_numbers(text))


def test_add_runs(content, read, tmp_path):
    read(content)
    path = tmp_path / "case.json"
    add_runs.add_runs(path, {"y/2": {"AP": 52.0}, "y/1": {"AP": 1.5}})
    changed = json.loads(path.read_text())
    assert changed["runs"].pop("y/1") == {"AP": 1.5} and changed == content
    assert re.search(r'^    "y/1": \{"AP": 1.5\}$', path.read_text(), re.M)
    with pytest.raises(ResultError, match="has other numbers for 'x/1'"):
        add_runs.add_runs(path, {"x/1": {"AP": 51.0}})


def test_add_runs_from_the_command_line(content, read, tmp_path, monkeypatch, capsys):
    read(content)
    monkeypatch.setattr(add_runs, "FOLDER", tmp_path)
    (tmp_path / "new").mkdir()
    file = tmp_path / "new" / "results.json"
    file.write_text('{"z/1": {"AP": 2.0}}')
    assert add_runs.main(["case", str(file)]) == 0
    assert json.loads((tmp_path / "case.json").read_text())["runs"]["z/1"] == {"AP": 2.0}
    assert add_runs.main(["nothing", str(file)]) == 2
    assert "error: " in capsys.readouterr().out
