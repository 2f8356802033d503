"""The lock on a run's folder: who gets it, who is refused, and who may take it over."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tood.engine import lock_file, processes
from tood.engine.lock_file import LOCK_FILE, LockRecord, read_lock
from tood.engine.processes import LaunchId, this_process
from tood.engine.run_folder import (
    RUN_FILE,
    RunFolder,
    read_run_id,
)
from tood.errors import ConfigError

FAST = {"heartbeat_seconds": 0.05, "stale_seconds": 0.2, "environ": {}}


@pytest.fixture(autouse=True)
def short_watch(monkeypatch):
    monkeypatch.setattr(lock_file, "WATCH_MARGIN", 0.1)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "output" / "run"


@pytest.fixture
def leave_lock(folder):
    """Writes the lock of another process, changed as asked."""

    def leave(age: float = 0, **changes) -> LockRecord:
        folder.mkdir(parents=True, exist_ok=True)
        process = replace(this_process(), **changes.pop("process", {}))
        record = LockRecord("token", process, LaunchId(), "abc", "2026-01-01 00:00:00 +0000")
        record = replace(record, **changes)
        (folder / LOCK_FILE).write_text(record.to_json())
        os.utime(folder / LOCK_FILE, (time.time() - age,) * 2)
        return record

    return leave


def run_elsewhere(code: str, *arguments: object) -> subprocess.Popen:
    """Start Python in a process of its own, without PyTorch; ``input()`` waits there."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_second_run_is_refused_until_the_first_releases(folder):
    with RunFolder.acquire(folder, **FAST) as first:
        assert (folder / LOCK_FILE).is_file()
        with pytest.raises(ConfigError) as error:
            RunFolder.acquire(folder, **FAST)
        host = this_process().host
        assert f"{folder} is in use by another training (process {os.getpid()} on {host}, " in str(
            error.value
        )
        assert "\n" not in str(error.value)
        assert first.notes == []
    assert not list(folder.iterdir())  # nothing is left, no temporary file either
    RunFolder.acquire(folder, **FAST).release()


def test_released_after_an_error(folder):
    with pytest.raises(ZeroDivisionError), RunFolder.acquire(folder, **FAST):
        raise ZeroDivisionError
    assert not (folder / LOCK_FILE).exists()


def test_a_forked_process_does_not_release(folder):
    with RunFolder.acquire(folder, **FAST) as held:
        pid = os.fork()
        if pid == 0:
            held.release()
            os._exit(0)
        os.waitpid(pid, 0)
        assert (folder / LOCK_FILE).is_file()


def test_heartbeat(folder):
    with RunFolder.acquire(folder, **FAST):
        end = time.monotonic() + 10
        while read_lock(folder / LOCK_FILE).heartbeat < 2 and time.monotonic() < end:
            time.sleep(0.02)
        assert read_lock(folder / LOCK_FILE).heartbeat >= 2


def test_run_id_is_kept_by_a_resume(folder):
    with RunFolder.acquire(folder, **FAST) as first:
        assert read_run_id(folder) is None  # the setup may still fail
        first.write_run_file()
    assert read_run_id(folder) == first.run_id and len(first.run_id) == 12
    with RunFolder.acquire(folder, resume=True, **FAST) as resumed:
        assert resumed.run_id == first.run_id
    with RunFolder.acquire(folder, **FAST) as fresh:
        assert fresh.run_id != first.run_id
    assert json.loads((folder / RUN_FILE).read_text())["run_id"] == first.run_id


@pytest.mark.parametrize("text", ["", "[]", "{}", "{", "\0"])
def test_damaged_run_file(folder, text):
    folder.mkdir(parents=True)
    (folder / RUN_FILE).write_text(text)
    with RunFolder.acquire(folder, resume=True, **FAST) as resumed:
        assert len(resumed.run_id) == 12


def test_killed_process_is_taken_over(folder, leave_lock):
    process = run_elsewhere("print(flush=True); input()")
    process.stdout.readline()
    pid = process.pid
    leave_lock(process={"pid": pid, "start": processes._start_time(pid)})
    with pytest.raises(ConfigError, match=f"process {pid} on"):
        RunFolder.acquire(folder, **FAST)
    process.send_signal(signal.SIGKILL)
    # Also before its parent has asked for its exit code.
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with RunFolder.acquire(folder, **FAST) as held:
        (note,) = held.notes
        assert f"Taking over {folder} from an earlier training (process {pid} on" in note
        assert "has ended without removing its lock" in note
    process.communicate()


def test_another_process_with_the_number_of_a_dead_one(folder, leave_lock):
    leave_lock(process={"start": "1"})  # the number is that of this process
    with RunFolder.acquire(folder, **FAST) as held:
        assert "has ended" in held.notes[0]


FOREIGN = [{"host": "elsewhere"}, {"machine": "another boot"}, {"machine": "pid:[1]"}]


@pytest.mark.parametrize("process", FOREIGN)
def test_fresh_lock_of_another_machine(folder, leave_lock, process):
    leave_lock(process={**process, "pid": 999_999_999})
    with pytest.raises(ConfigError, match="process 999999999 on"):
        RunFolder.acquire(folder, heartbeat_seconds=0.05, stale_seconds=60, environ={})


@pytest.mark.parametrize("age", [1000, -1000])
def test_abandoned_lock_of_another_machine(folder, leave_lock, age):
    """Its time may be in the future: the clock of that machine is not ours."""
    leave_lock(age=age, process={"host": "elsewhere"})
    with RunFolder.acquire(folder, **FAST) as held:
        assert "from an earlier training (process" in held.notes[0]
        assert "on elsewhere" in held.notes[0] and "has not changed for" in held.notes[0]


@pytest.mark.parametrize("age", [1000, -1000])
def test_old_lock_that_changes_is_alive(folder, leave_lock, monkeypatch, age):
    record = leave_lock(age=age, process={"host": "elsewhere"})

    def beat() -> None:
        time.sleep(0.1)
        leave_lock(age=age, heartbeat=1, process={"host": "elsewhere"})

    monkeypatch.setattr(lock_file, "WATCH_MARGIN", 5)
    thread = threading.Thread(target=beat)
    thread.start()
    with pytest.raises(ConfigError, match="on elsewhere"):
        RunFolder.acquire(folder, **FAST)
    thread.join()
    assert read_lock(folder / LOCK_FILE) == replace(record, heartbeat=1)


def test_unreadable_lock(folder):
    folder.mkdir(parents=True)
    (folder / LOCK_FILE).write_text('{"token": ')
    with pytest.raises(ConfigError, match=r"is in use by another training\. Wait"):
        RunFolder.acquire(folder, heartbeat_seconds=0.05, stale_seconds=60, environ={})
    os.utime(folder / LOCK_FILE, (1, 1))
    with RunFolder.acquire(folder, **FAST) as held:
        assert "has not changed" in held.notes[0]


@pytest.mark.parametrize(
    "first, second, name",
    [
        ({"SLURM_JOB_ID": "7"}, {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}, "SLURM 7"),
        (
            {"TORCHELASTIC_RUN_ID": "x", "TORCHELASTIC_RESTART_COUNT": "0"},
            {"TORCHELASTIC_RUN_ID": "x", "TORCHELASTIC_RESTART_COUNT": "1"},
            "torchrun x",
        ),
        (
            {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1", "TORCHELASTIC_RESTART_COUNT": "2"},
            {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2", "TORCHELASTIC_RESTART_COUNT": "0"},
            "SLURM 7",
        ),
    ],
)
def test_restarted_job_takes_over_at_once(folder, leave_lock, first, second, name):
    """On another machine, before the old lock looks abandoned."""
    before = LaunchId.of(first)
    assert before.name == name
    leave_lock(process={"host": "elsewhere"}, launch=before)
    patient = {"heartbeat_seconds": 5, "stale_seconds": 60}
    for environ in (first, {}, {**second, "SLURM_JOB_ID": "8", "TORCHELASTIC_RUN_ID": "y"}):
        with pytest.raises(ConfigError):  # the same start, or another job
            RunFolder.acquire(folder, environ=environ, **patient)
    with RunFolder.acquire(folder, environ=second, **patient) as held:
        assert "the launcher has started the same job again" in held.notes[0]


def race(folder, num: int) -> list[str]:
    """Let several threads take the folder at once; return what came out, and release it."""
    barrier, results, held = threading.Barrier(num), [], []

    def take() -> None:
        barrier.wait()
        try:
            held.append(RunFolder.acquire(folder, **{**FAST, "heartbeat_seconds": 5}))
            results.append("won")
        except ConfigError as error:
            results.append(str(error))

    threads = [threading.Thread(target=take) for _ in range(num)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for winner in held:
        winner.release()
    return results


@pytest.mark.parametrize("left", [False, True])
def test_of_two_starts_one_wins(folder, leave_lock, left):
    """In an empty folder, and where both may take over a lock."""
    for i in range(10):
        if left:
            leave_lock(process={"start": "1"})
        results = race(folder, 4)
        assert results.count("won") == 1, (i, results)
        assert all("in use by another training" in x for x in results if x != "won")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_run_that_was_overtaken_ends(folder, leave_lock, monkeypatch):
    """It was suspended for minutes, and another one has the folder now."""
    codes = []
    monkeypatch.setattr(os, "_exit", lambda code: codes.append(code) or sys.exit(code))
    held = RunFolder.acquire(folder, **FAST)
    record = leave_lock()
    held._thread.join(timeout=10)
    assert codes == [2]
    held.release()
    assert read_lock(folder / LOCK_FILE) == record  # not its own any more


def test_without_hard_links(folder, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(lock_file.os, "link", refuse)
    assert race(folder, 3).count("won") == 1


def test_takeover_that_was_killed_in_the_middle(folder, leave_lock, monkeypatch):
    monkeypatch.setattr(lock_file, "_TAKEOVER_SECONDS", 0.1)
    leave_lock(process={"start": "1"})
    (folder / "run.lock.takeover").write_text("someone")
    RunFolder.acquire(folder, **FAST).release()
    assert not list(folder.iterdir())


def test_full_disk(folder, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(ConfigError, match=f"{LOCK_FILE} cannot be written: the disk is full"):
        RunFolder.acquire(folder, **FAST)
    assert not list(folder.iterdir())
