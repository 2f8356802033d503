"""tools.matrix: its rows, and what it reads from the programs that it runs."""

import json
import sys

import pytest

from tests.helpers import ROOT
from tood_runtime.missing_packages import OLDEST_VERSIONS
from tools.extras import EXTRAS, find_tests
from tools.matrix import __main__ as matrix
from tools.matrix import rows, running


def test_every_extra_has_its_packages_and_tests():
    """All that users install; each package with a floor belongs to one of them."""
    extras = rows._pyproject()["project"]["optional-dependencies"]
    assert EXTRAS.keys() == extras.keys() - {"dev", "docs", "mmdet", "ray"}
    assert {module for modules in EXTRAS.values() for module in modules} == OLDEST_VERSIONS.keys()
    for extra in EXTRAS:
        files = find_tests(extra)
        assert files and all((ROOT / file).is_file() for file in files), extra
    assert "tests/checkpoint/test_safetensors.py" in find_tests("safetensors")


def test_rows():
    found = {row.name: row for row in rows.make_rows(["3.10", "3.11", "3.13"])}
    assert len(found) == 3 + 4 + len(EXTRAS)
    assert found["oldest packages"].python == "3.10" and found["oldest packages"].oldest
    assert found["detectron2 main"].python == "3.11" and found["detectron2 main"].main
    assert found["no extras"].extras == () and not found["no extras"].tests
    assert found["only the extra onnx"].extras == ("onnx",)
    assert {row.python for row in rows.make_rows(["3.12"])} == {"3.12"}


def test_a_row_of_other_versions_has_failed():
    def found(row, **other):
        usual = {"python": "3.11.4", "torch": "2.14.0", "detectron2": "0.4+pure"}
        return running.wrong_versions(row, usual | other)

    assert not found(rows.Row("Python 3.11", "3.11"))
    assert found(rows.Row("Python 3.1", "3.1")) == "Python 3.11.4"
    assert found(rows.Row("detectron2 main", "3.11", main=True)) == "detectron2 0.4+pure"
    assert not found(rows.Row("detectron2 main", "3.11", main=True), detectron2="0.6")
    assert found(rows.Row("Python 3.11", "3.11"), detectron2="0.6") == "detectron2 0.6"
    assert found(rows.Row("oldest", "3.11", oldest=True)) == "torch 2.14.0"
    assert not found(rows.Row("oldest", "3.11", oldest=True), torch="2.6.0+cpu")


def test_uv_installs(tmp_path, monkeypatch, capsys):
    usual = running._install("python", rows.Row("Python 3.11", "3.11"))
    assert usual[1:4] == ["-m", "uv", "pip"] and usual[-2:] == ["--python", "python"]
    oldest = running._install("python", rows.Row("oldest", "3.11", oldest=True))
    assert oldest[: len(usual)] == usual and "lowest-direct" in oldest
    monkeypatch.setattr(matrix, "find_spec", lambda _: None)
    with pytest.raises(SystemExit):
        matrix.main(["--output", str(tmp_path)])
    assert "pip install uv" in capsys.readouterr().err


def test_main_runs_its_own_end_to_end_tests_too(tmp_path):
    usual, main = (running._pytest("python", tmp_path, is_main) for is_main in (False, True))
    assert usual[usual.index("-m", 2) + 1] == "not slow"
    assert main[main.index("-m", 2) + 1] == "not slow or detectron2_main"


def test_steps_end_at_the_first_that_fails(monkeypatch):
    steps = [[sys.executable, "-c", f"print({i}); exit({i})"] for i in range(3)]
    assert running._run_steps(steps, {}) == (1, "1\n")
    assert running._run_steps(steps[:1], {}) == (0, "0\n")
    monkeypatch.setattr(running, "TIMEOUT", 0.1)
    code, output = running._run_steps([[sys.executable, "-c", "import time; time.sleep(9)"]], {})
    assert code == 124 and output.endswith("took more than 0.1 s")


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("...\n12 passed, 3 skipped in 4.1s", (12, 3, 0)),
        ("2 failed, 12 passed, 1 error in 4s", (12, 0, 3)),
        ("3 errors in 2s", (0, 0, "no tests")),
        ("ERROR: no matching distribution", (0, 0, "no tests")),
    ],
)
def test_outcomes(output, expected):
    found = running.read_outcome(output)
    assert (found["passed"], found["skipped"], found["failed"]) == expected


def test_finished_rows_are_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(matrix, "find_spec", lambda _: "installed")
    monkeypatch.setattr(matrix, "find_interpreters", lambda: {"3.11": "python3.11"})
    ran = []

    def run_row(row, interpreter, main_folder, tests):
        ran.append(row.name)
        failed = int(row.name == "no extras")
        cells = dict.fromkeys(matrix.COLUMNS, "") | {"row": row.name, "passed": 1, "failed": failed}
        return cells | running.key_of(row, tests)

    monkeypatch.setattr(matrix, "run_row", run_row)
    arguments = ["--output", str(tmp_path), "--rows", "Python 3.11"]
    assert matrix.main(arguments) == 0
    assert matrix.main([*arguments, "no extras"]) == 1
    assert ran == ["Python 3.11", "no extras"]
    assert len(json.loads((tmp_path / "results.json").read_text())) == 2
    assert "| no extras" in capsys.readouterr().out
    assert matrix.main([*arguments, "--tests", "tests/runtime"]) == 1  # a result of other tests
    assert ran == ["Python 3.11", "no extras", "Python 3.11"]
    with pytest.raises(SystemExit):
        matrix.main([*arguments, "--detectron2-main", str(tmp_path)])
    assert "is not a checkout of detectron2" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        matrix.main([*arguments, "detectron2 main"])  # without a checkout
    assert "unknown rows ['detectron2 main']" in capsys.readouterr().err
