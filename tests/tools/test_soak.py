"""tools.soak: that it sees what is lost. The soaks themselves take a quarter of an hour each."""

import json
import subprocess
import sys

import pytest
import torch

from tools import processes
from tools.soak import __main__ as soak
from tools.soak import machine, serving, training
from tools.soak.machine import FullDisk, Report, write_images
from tools.soak.slow_disk import sitecustomize


def test_memory_that_grows():
    flat = Report(memory=[100.0, 150.0] + [200.0] * 30 + [215.0] * 10)
    flat.check_memory()
    assert not flat.problems
    growing = Report(memory=[200.0 + 2 * i for i in range(60)] + [0.0])
    growing.check_memory()
    assert len(growing.memory) == 60
    (problem,) = growing.problems
    assert problem.startswith("memory grew from 2") and problem.endswith("MiB")
    short = Report(memory=[200.0] * 7)
    short.check_memory()
    assert short.problems == ["memory was sampled 7 times only: run longer"]


def test_metrics_that_are_lost_or_doubled(tmp_path):
    def problems(*iterations):
        lines = [json.dumps({"iteration": iteration}) for iteration in iterations]
        (tmp_path / "metrics.json").write_text("\n".join(lines))
        report = Report()
        training._check_metrics(tmp_path, 59, report)
        return report.problems

    report = Report()
    training._check_metrics(tmp_path, 59, report)
    assert report.problems == ["there is no metrics.json"]
    assert problems(19, 39, 59) == []
    assert problems(19, 59) == ["metrics.json lacks the iterations [39]"]
    assert problems(19, 39, 39, 59) == ["metrics.json has iterations twice"]
    (tmp_path / "metrics.json").write_text('{"iteration": 19}\n{"iterat')
    training._check_metrics(tmp_path, 59, report)
    assert report.problems[-1].startswith("metrics.json has a line that is no JSON")
    (tmp_path / "metrics.json").write_text("")
    training._check_metrics(tmp_path, -1, report)
    assert report.problems[-1] == "only 0 iterations were trained: run longer"


def test_checkpoints_that_go_back(tmp_path):
    report = Report()
    assert training._check_checkpoint(tmp_path, -1, report) == -1
    torch.save({"model": {}, "iteration": 39}, tmp_path / "a.pth")
    (tmp_path / "last_checkpoint").write_text("a.pth")
    assert training._check_checkpoint(tmp_path, 19, report) == 39
    assert not report.problems
    assert training._check_checkpoint(tmp_path, 59, report) == 39
    (tmp_path / "a.pth").write_bytes(b"half a file")
    training._check_checkpoint(tmp_path, 39, report)
    (tmp_path / "last_checkpoint").unlink()
    training._check_checkpoint(tmp_path, 39, report)
    first, second, third = report.problems
    assert first == "the last checkpoint went back from 59 to 39"
    assert second.startswith("the last checkpoint cannot be read")
    assert third == "last_checkpoint is gone"


def test_a_process_ends_with_its_context(tmp_path):
    with machine.running_tood(["check-env"], tmp_path / "log") as process:
        assert process.poll() is None and machine.wait_for(process, 0.01) is None
    assert process.poll() == -9


def test_a_slow_disk(tmp_path, monkeypatch):
    """Files below the folder are opened late, in child processes too."""
    code = (
        "import pathlib, sys, time; begin = time.monotonic(); open(sys.argv[1]).close();"
        "pathlib.Path(sys.argv[2]).write_text(str(time.monotonic() - begin))"
    )
    parent = "import subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]])"
    (tmp_path / "file").write_text("")
    words = ["-c", parent, "-c", code, str(tmp_path / "file"), str(tmp_path / "seconds")]
    monkeypatch.setattr(machine, "PROGRAM", [sys.executable])
    with machine.running_tood(words, tmp_path / "log", slow=True) as process:
        assert process.wait(60) == 0
    assert float((tmp_path / "seconds").read_text()) >= sitecustomize.DELAY


def test_a_slow_disk_is_only_that_of_its_folder(tmp_path, monkeypatch):
    seconds = []
    monkeypatch.setattr(sitecustomize, "FOLDER", str(tmp_path / "a"))
    monkeypatch.setattr(sitecustomize.time, "sleep", seconds.append)
    for event, path in [
        ("open", str(tmp_path / "a/b")),
        ("os.rename", tmp_path / "a/b"),
        ("open", 3),
        ("open", str(tmp_path / "ab")),
        ("os.listdir", str(tmp_path / "a/b")),
    ]:
        sitecustomize._wait(event, (path,))
    assert seconds == [sitecustomize.DELAY] * 2


def test_the_detections_must_tell_images_apart(monkeypatch):
    answers = {b"a": (200, b"1"), b"b": (200, b"1"), b"c": (500, b"no")}
    monkeypatch.setattr(serving, "ask", lambda connection, method, path, body: answers[body])
    monkeypatch.setattr(serving, "summary", lambda body: body)
    assert serving._reference(1, [b"a"]) == [b"1"]
    with pytest.raises(RuntimeError, match="the same detections"):
        serving._reference(1, [b"a", b"b"])
    with pytest.raises(RuntimeError, match="answers an image with 500"):
        serving._reference(1, [b"c"])


def test_broken_images(tmp_path):
    broken = write_images(tmp_path, 60, seed=0)
    assert broken == {f"image{i:06d}.png" for i in (7, 32, 57)}
    assert len(list(tmp_path.iterdir())) == 60


def test_a_large_disk_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "SMALL_DISK", 0)
    assert not FullDisk(tmp_path).is_possible
    monkeypatch.setattr(machine, "SMALL_DISK", 1 << 60)
    assert FullDisk(tmp_path).is_possible


def test_descendants():
    inner = "import time; time.sleep(60)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as process:
        while not processes.descendants(process.pid):
            assert process.poll() is None
        (child,) = processes.descendants(process.pid)
        assert child != process.pid and processes.family_mib(process.pid) > processes.family_mib(
            child
        )
        machine.kill_all(process)
    assert processes.descendants(process.pid) == [] and processes.family_mib(process.pid) == 0


@pytest.mark.parametrize(("problems", "code"), [([], 0), (["an image was lost"], 1)])
def test_problems_are_printed_and_fail(tmp_path, monkeypatch, capsys, problems, code):
    def part(folder, minutes, generator):
        assert folder.is_dir() and minutes == 2
        return Report(problems=problems, memory=[100.0, 130.0, 120.0])

    monkeypatch.setattr(soak, "PARTS", {"serving": part})
    assert soak.main(["--minutes", "2", "--folder", str(tmp_path)]) == code
    out = capsys.readouterr().out
    assert "memory: 100 MiB, 130 at most, 120 at the end" in out
    assert f"{len(problems)} problems" in out and ("an image was lost" in out) == bool(problems)
