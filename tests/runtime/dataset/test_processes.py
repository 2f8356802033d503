"""Several processes in one folder: claims, kills, and two runs at the same time."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.helpers import ROOT
from tests.runtime.dataset.fake import FakeDetector, detect_all
from tood_runtime.dataset.claims import FINISHING, LISTING, Claims
from tood_runtime.output_files import OutputError

pytest.importorskip("pyarrow")


@pytest.fixture
def start():
    """Starts a process of a run; all that are left are killed at the end."""
    started = []

    def run(*arguments):
        command = [sys.executable, "-m", "tests.runtime.dataset.fake", *map(str, arguments)]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def wait_for_shards(folder, count):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if len(list((folder / "shards").glob("shard-*"))) >= count:
            return
        time.sleep(0.005)
    raise AssertionError("no shards")


def contents(folder):
    """Everything that is a result; claims and times are none."""
    files = [*(folder / "shards").iterdir(), *folder.glob("*.json")]
    skipped = ("summary.json", "manifest.json")
    return {path.name: path.read_bytes() for path in files if path.name not in skipped}


@pytest.fixture(scope="module")
def many(write_images, tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("many"), 160)


@pytest.mark.parametrize("file_format", ["parquet", "coco"])
def test_a_killed_process_is_replaced_by_the_other(many, tmp_path, start, file_format):
    """The system drops its claim; nothing is lost, nothing is there twice."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    expected = detect_all(whole, [many], format=file_format)
    first, second = (start(killed, file_format, many) for _ in range(2))
    wait_for_shards(killed, 3)
    first.send_signal(signal.SIGKILL)
    assert second.wait(60) == 0, second.stdout.read()
    assert contents(killed) == contents(whole)
    assert f"images={expected.images}" in second.stdout.read()


def test_a_restart_after_all_were_killed(many, tmp_path, start):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    detect_all(whole, [many], format="coco")
    for _ in range(2):
        processes = [start(killed, "coco", many) for _ in range(2)]
        done = len(list((killed / "shards").glob("shard-*")))
        wait_for_shards(killed, done + 2)
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.wait()
    detector = FakeDetector()
    detect_all(killed, [many], detector, format="coco")
    assert 0 < sum(detector.batch_sizes) < 160
    assert contents(killed) == contents(whole)


def test_two_runs_share_the_work(many, tmp_path, start):
    """Whoever starts later finds out what is done, and takes some of the rest."""
    processes = [start(tmp_path, "parquet", many) for _ in range(2)]
    for process in processes:
        assert process.wait(60) == 0
        assert "images=160, errors=0" in process.stdout.read()
    assert len(list((tmp_path / "shards").iterdir())) == 20


def test_claims_of_another_process(tmp_path):
    """They exclude each other, item by item, until the process ends."""
    claims = Claims(tmp_path / "lock")
    assert claims.try_claim(3) and claims.try_claim(LISTING)
    code = (
        "import sys; from pathlib import Path; from tood_runtime.dataset.claims import Claims;"
        f"claims = Claims(Path({str(tmp_path / 'lock')!r}));"
        "print([claims.try_claim(i) for i in (-2, -1, 0, 3, 4)], flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        **{"cwd": ROOT, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True},
    )
    try:
        assert child.stdout.readline().strip() == "[False, True, True, False, True]"
        assert not claims.try_claim(4) and not claims.try_claim(FINISHING)
    finally:
        child.kill()
        child.communicate()
    assert claims.try_claim(4) and claims.try_claim(FINISHING)
    claims.close()


@pytest.fixture
def no_locks(monkeypatch):
    """A file system without locks, for this process."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)


@pytest.mark.usefixtures("no_locks")
def test_a_file_system_without_locks(many, tmp_path, start, caplog):
    """More work than needed may be done, but the results are right."""
    detect_all(tmp_path / "whole", [many])
    assert caplog.text.count("has no locks (No locks available)") == 1
    other = start(tmp_path / "shared", "parquet", many)
    wait_for_shards(tmp_path / "shared", 1)
    detect_all(tmp_path / "shared", [many], FakeDetector(delay=0.01))
    assert other.wait(60) == 0
    assert contents(tmp_path / "shared") == contents(tmp_path / "whole")


@pytest.mark.usefixtures("no_locks")
def test_without_locks_files_that_others_may_be_writing_stay(many, tmp_path):
    (tmp_path / "run" / "shards").mkdir(parents=True)
    theirs = [tmp_path / "run" / name for name in (".a.1.tood-tmp", "shards/.b.2.tood-tmp")]
    for path in theirs:
        path.touch()
    detect_all(tmp_path / "run", [many])
    assert all(path.is_file() for path in theirs)


def test_a_file_system_without_links(many, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert detect_all(tmp_path, [many]).images == 160
    assert not list(tmp_path.glob(".*"))


def test_claims_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match="gone/lock: No such file or directory"):
        Claims(tmp_path / "gone" / "lock")
