"""tools.matrix: its rows, and what it reads from the programs that it runs."""

import json

import pytest

from tests.helpers import ROOT
from tood_runtime.missing_packages import OLDEST_VERSIONS
from tools import matrix
from tools.extras import EXTRAS, files_of_extra


def test_every_extra_has_its_packages_and_tests():
    """All that users install; each package with a floor belongs to one of them."""
    extras = matrix._pyproject()["project"]["optional-dependencies"]
    assert EXTRAS.keys() == extras.keys() - {"dev", "docs", "mmdet", "ray"}
    assert {module for modules in EXTRAS.values() for module in modules} == OLDEST_VERSIONS.keys()
    for extra in EXTRAS:
        files = files_of_extra(extra)
        assert files and all((ROOT / file).is_file() for file in files), extra
    assert "tests/checkpoint/test_safetensors.py" in files_of_extra("safetensors")


def test_rows():
    rows = {row.name: row for row in matrix.make_rows(["3.10", "3.11", "3.13"])}
    assert len(rows) == 3 + 4 + len(EXTRAS)
    assert rows["oldest packages"].python == "3.10" and rows["oldest packages"].oldest
    assert rows["detectron2 main"].python == "3.11" and rows["detectron2 main"].main
    assert rows["no extras"].extras == () and not rows["no extras"].tests
    assert rows["only the extra onnx"].extras == ("onnx",)
    assert {row.python for row in matrix.make_rows(["3.12"])} == {"3.12"}


def test_constraints_of_the_oldest_packages():
    found = matrix.pinned_to_floor(["torch>=2.6", "a[b]>=1.0", "ruff==1", "c"])
    assert found == ["torch==2.6", "a==1.0"]
    floors = matrix.oldest_constraints()
    assert "torch==2.6" in floors and "torchvision==0.21" in floors and "onnx==1.17" in floors


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
    found = matrix.read_outcome(output)
    assert (found["passed"], found["skipped"], found["failed"]) == expected


def test_finished_rows_are_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(matrix, "find_interpreters", lambda: {"3.11": "python3.11"})
    ran = []

    def run_row(row, interpreter, main_folder, tests):
        ran.append(row.name)
        failed = int(row.name == "no extras")
        return dict.fromkeys(matrix.COLUMNS, "") | {"row": row.name, "passed": 1, "failed": failed}

    monkeypatch.setattr(matrix, "run_row", run_row)
    arguments = ["--output", str(tmp_path), "--rows", "Python 3.11"]
    assert matrix.main(arguments) == 0
    assert matrix.main([*arguments, "no extras"]) == 1
    assert ran == ["Python 3.11", "no extras"]
    assert len(json.loads((tmp_path / "results.json").read_text())) == 2
    assert "| no extras" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        matrix.main([*arguments, "detectron2 main"])  # without a checkout
    assert "unknown rows ['detectron2 main']" in capsys.readouterr().err
