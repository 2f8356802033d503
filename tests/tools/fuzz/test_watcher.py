"""The watcher notices everything that a reader must not do, with readers that do it."""

from dataclasses import replace
from pathlib import Path

import pytest

from tools.fuzz.readers.files import Case, Link, Pipe, load_case, store_case, write_case
from tools.fuzz.readers.watcher import RUNTIME, Limits, Watcher

# A busy machine may let any process wait for seconds.
LIMITS = Limits(cpu_s=1, wall_s=120, idle_s=60, memory_mb=200)


@pytest.fixture(scope="module")
def watcher(tmp_path_factory):
    root = tmp_path_factory.mktemp("watched")
    with Watcher(root, "tests.tools.fuzz.planted", LIMITS) as watcher:
        yield watcher


@pytest.mark.parametrize(
    ("action", "outcome", "problem"),
    [
        ("accept", "accepted", ""),
        ("refuse", "refused", ""),
        ("write inside", "accepted", ""),
        ("KeyError", "raised", "KeyError: 'x'"),
        ("SystemExit", "raised", "SystemExit: 3"),
        ("write above", "forbidden", "writes '../written'"),
        ("write elsewhere", "forbidden", "writes '/tmp/tood_fuzz_written'"),
        ("write through a link", "forbidden", "tood_fuzz_written"),
        ("write unseen", "forbidden", "writes or removes"),
        ("remove elsewhere", "forbidden", "os.remove '/tmp/tood_fuzz_nothing'"),
        ("system", "forbidden", "runs a program: os.system"),
        ("subprocess", "forbidden", "runs a program: subprocess.Popen"),
        ("connect", "forbidden", "uses the network"),
        ("eval", "forbidden", "code from the file"),
        ("code from the folder", "forbidden", "planted_module.py"),
        ("refuse after MemoryError", "memory", "The file is damaged"),
        ("eat memory", "memory", "MB"),
        ("eat memory and release it", "memory", "MB"),
        ("compute", "timeout", "1 s of CPU time"),
        ("crash", "crash", "SIGSEGV"),
        ("exit", "crash", "exit code 4"),
    ],
)
def test_everything_forbidden_is_noticed(watcher, action, outcome, problem):
    result = watcher.run(Case("planted", "", {"a": b"x"}, {"action": action}))
    assert (result.outcome, problem in result.problem) == (outcome, True), result
    assert result.is_finding == (outcome not in ("accepted", "refused"))
    # The next case is read as if nothing had happened.
    assert watcher.run(Case("planted", "", {}, {"action": "accept"})).outcome == "accepted"
    assert not Path("/tmp/tood_fuzz_written").exists()


def test_waiting_is_noticed(tmp_path):
    with Watcher(tmp_path, "tests.tools.fuzz.planted", replace(LIMITS, idle_s=3)) as watcher:
        result = watcher.run(Case("planted", "", {"a": b"x"}, {"action": "sleep"}))
    assert (result.outcome, result.is_finding) == ("timeout", True)
    assert "waits for more than 3 s" in result.problem


def test_programs_may_do_what_they_want(watcher):
    options = {"action": "eval", "step": {"runs_code": True}}
    assert watcher.run(Case("planted", "", {}, options)).outcome == "accepted"


def test_crashes_in_the_runtime_of_another_project_are_told_apart(watcher):
    for action in ("crash", "compute", "eat memory"):
        result = watcher.run(
            Case("planted", "", {}, {"action": action, "step": {"in_runtime": True}})
        )
        assert result.outcome == RUNTIME and not result.is_finding
        assert watcher.run(Case("planted", "", {}, {"action": action})).is_finding


def test_a_step_of_ours_before_that_of_a_runtime_is_a_finding(watcher):
    for action, outcome in (("eat memory and release it", "memory"), ("use time", "timeout")):
        options = {"action": action, "ends_in_runtime": True}
        assert watcher.run(Case("planted", "", {}, options)).outcome == outcome
        options["step"] = {"in_runtime": True}
        assert watcher.run(Case("planted", "", {}, options)).outcome == RUNTIME


def test_cases_are_stored_and_loaded(tmp_path):
    files = {
        "a/b.txt": b"\0\xff",
        "\udcff.png": b"x",
        "e\u0301": b"y",
        "link": Link("/x"),
        "p": Pipe(),
    }
    case = Case("coco", "a/b.txt", files, {"masks": True})
    store_case(case, tmp_path / "c-1", {"problem": "x"})
    assert load_case(tmp_path / "c-1.json") == case
    assert sorted(path.name for path in (tmp_path / "c-1").rglob("*")) == ["a", "b.txt"]
    write_case(case, tmp_path / "written")
    assert (tmp_path / "written" / "link").is_symlink() and (tmp_path / "written" / "p").is_fifo()
