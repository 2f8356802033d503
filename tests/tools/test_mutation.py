"""tools.mutation: what counts as a mutant, and that it is loaded instead of the file."""

import importlib
import json
import os
import signal
import sys

import pytest

from tests.helpers import ROOT
from tools.mutation import __main__ as mutation
from tools.mutation import mutants, running
from tools.mutation.targets import TARGETS, find_modules


def test_targets_exist():
    for target in TARGETS.values():
        assert all((ROOT / name).exists() for name in (*target.modules, *target.tests))
        assert all((ROOT / path).suffix == ".py" for path in find_modules(target))
    assert "tood/modeling/assigners/atss.py" in find_modules(TARGETS["assigners"])


def test_published_scores():
    """They follow from the counts, reach the floors, and every survivor is listed."""
    folder = ROOT / "docs/results/data"
    tables = json.loads((folder / "mutation.json").read_text())["tables"]
    survivors = 0
    for part, count, killed, score, floor in tables["scores"]["rows"]:
        assert score == f"{100 * int(killed) / int(count):.1f}"
        assert float(score) >= float(floor) == TARGETS[part].floor
        survivors += int(count) - int(killed)
    assert survivors == sum(int(count) for count, _ in tables["reasons"]["rows"])
    lines = (folder / "mutation_survivors.txt").read_text().splitlines()
    assert sum(not line.startswith("#") for line in lines) == survivors


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


def test_mutants_can_be_compiled():
    """Of "def f(*, a)", cosmic-ray makes "def f(+, a)", which no test has to notice."""
    pytest.importorskip("cosmic_ray")
    assert "    *,\n" in (ROOT / "tood/modeling/postprocessing.py").read_text()
    for mutant in mutants.make_mutants("tood/modeling/postprocessing.py"):
        compile(mutant.code, "mutant", "exec")


def test_outcomes():
    """Tests that fail kill a mutant, and imports: not a lack of memory, or pytest's own error."""
    assert running.outcome_of(0) == "survived"
    assert {running.outcome_of(code << 8) for code in (1, 2, 4)} == {"killed"}
    assert running.outcome_of(signal.SIGALRM) == "timeout"
    for status in (signal.SIGKILL, signal.SIGSEGV, 3 << 8, 5 << 8, 70 << 8):
        assert running.outcome_of(status) == "error"


def test_a_fingerprint_changes_with_the_code_and_the_tests(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "ROOT", tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_a.py").write_text("a")
    first = mutants.Mutant("tood/a.py", "NumberReplacer", 0, 1, "1  ->  2", "a = 2")
    second = mutants.Mutant("tood/a.py", "NumberReplacer", 0, 1, "1  ->  2", "a = 2\nb = 1")
    running._digest_of_shared.cache_clear()
    found = [running.fingerprint(mutant, ["tests/test_a.py"]) for mutant in (first, second)]
    (tmp_path / "tests/test_a.py").write_text("b")
    found.append(running.fingerprint(first, ["tests/test_a.py"]))
    (tmp_path / "tests/helpers.py").write_text("c")
    running._digest_of_shared.cache_clear()
    found.append(running.fingerprint(first, ["tests/test_a.py"]))
    running._digest_of_shared.cache_clear()
    assert len(set(found)) == 4


def test_timeouts_run_again_alone(monkeypatch):
    made = [mutants.Mutant("tood/a.py", "NumberReplacer", i, i, "", "") for i in range(3)]
    monkeypatch.setattr(running, "start", lambda *_: os.fork() or os._exit(0))
    runs = []

    def run_all(target, waiting, jobs, limit, folder):
        runs.append((len(waiting), jobs))
        return [(mutant, "timeout" if mutant is made[1] else "killed") for mutant in waiting]

    monkeypatch.setattr(running, "_run_all", run_all)
    found = {}
    running.run_mutants(TARGETS["box_ops"], made, 2, lambda x, y: found.update({x.line: y}))
    assert runs == [(3, 2), (1, 1)] and found == {0: "killed", 1: "timeout", 2: "killed"}


@pytest.mark.parametrize(("survivors", "code"), [(0, 0), (1, 1)])
def test_a_target_below_its_floor_fails(tmp_path, monkeypatch, capsys, survivors, code):
    made = [mutants.Mutant("tood/a.py", "NumberReplacer", i, i, "1  ->  2", "") for i in range(10)]

    outcomes = [*["survived"] * survivors, *["timeout"] * 2, *["killed"] * 10]
    runs = []

    def run_mutants(target, waiting, jobs, report):
        runs.append(len(waiting))
        for mutant, outcome in zip(waiting, outcomes, strict=False):
            report(mutant, outcome)

    monkeypatch.setattr(mutation, "preload", lambda: None)
    monkeypatch.setattr(mutation, "find_modules", lambda _: ["tood/a.py"])
    monkeypatch.setattr(mutation, "make_mutants", lambda _: iter(made))
    monkeypatch.setattr(mutation, "run_mutants", run_mutants)
    arguments = ["--targets", "box_ops", "--output", str(tmp_path)]
    assert mutation.main(arguments) == mutation.main(arguments) == code
    assert runs == [10]  # and not again
    assert f"|10|{survivors}|2|0|" in capsys.readouterr().out.replace(" ", "")
