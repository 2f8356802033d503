"""tools.mutation: what counts as a mutant, and that it is loaded instead of the file."""

import importlib
import json
import signal
import sys

import pytest

from tests.helpers import ROOT
from tools.mutation import __main__ as mutation
from tools.mutation import mutants
from tools.mutation.targets import TARGETS, find_modules


def test_targets_exist():
    for target in TARGETS.values():
        assert all((ROOT / name).exists() for name in (*target.modules, *target.tests))
        assert all((ROOT / path).suffix == ".py" for path in find_modules(target))
    assert "tood/modeling/assigners/atss.py" in find_modules(TARGETS["assigners"])


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ("def f(x: int) -> int:\n    y: str = x + 1\n    return y", True),
        ("def f(x: int | None) -> int:\n    y: int = x + 1\n    return y", True),
        ("def f(x: int) -> int:\n    y: int = x - 1\n    return y", False),
        ("def f(x: int = 1) -> int:\n    y: int = x + 1\n    return y", False),
    ],
)
def test_annotations_do_not_count(other, same):
    code = "def f(x: int) -> int:\n    y: int = x + 1\n    return y"
    assert (mutants._without_annotations(code) == mutants._without_annotations(other)) == same


def test_a_mutant_is_loaded_instead_of_its_file(tmp_path, monkeypatch):
    (tmp_path / "some_module.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = str(tmp_path / "some_module.py")
    loader = mutants.MutatedModule("some_module", path, "value = 2\n")
    monkeypatch.setattr(sys, "meta_path", [loader, *sys.meta_path])
    assert importlib.import_module("some_module").value == 2
    monkeypatch.delitem(sys.modules, "some_module")
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[1:])
    assert importlib.import_module("some_module").value == 1
    monkeypatch.delitem(sys.modules, "some_module")


def test_mutants_of_a_module():
    pytest.importorskip("cosmic_ray")
    found = list(mutants.make_mutants("tood/modeling/heads/box_coding.py"))
    assert len({mutant.name for mutant in found}) == len(found) > 20
    limit = [mutant for mutant in found if mutant.change.startswith("MAX_LOG_DISTANCE")]
    assert {mutant.operator for mutant in limit} == {"NumberReplacer"}
    assert all(mutant.code != (ROOT / mutant.path).read_text() for mutant in found)


def test_outcomes():
    assert mutation.outcome_of(0) == "survived"
    assert mutation.outcome_of(1 << 8) == "killed"
    assert mutation.outcome_of(signal.SIGSEGV) == "killed"
    assert mutation.outcome_of(signal.SIGALRM) == "timeout"


@pytest.mark.parametrize(("survivors", "code"), [(0, 0), (1, 1)])
def test_a_target_below_its_floor_fails(tmp_path, monkeypatch, capsys, survivors, code):
    made = [mutants.Mutant("tood/a.py", "NumberReplacer", i, i, "1  ->  2", "") for i in range(10)]

    def run_target(target, waiting, known, jobs, path):
        for i, mutant in enumerate(waiting):
            known[mutant.name] = {"outcome": "survived" if i < survivors else "killed"}
        path.write_text(json.dumps(known))

    monkeypatch.setattr(mutation, "preload", lambda: None)
    monkeypatch.setattr(mutation, "find_modules", lambda _: ["tood/a.py"])
    monkeypatch.setattr(mutation, "make_mutants", lambda _: iter(made))
    monkeypatch.setattr(mutation, "run_target", run_target)
    assert mutation.main(["--targets", "box_ops", "--output", str(tmp_path)]) == code
    assert f"| {survivors} |".replace(" ", "") in capsys.readouterr().out.replace(" ", "")
