"""Signals that ask a training to stop, sent to this process."""

import signal
import stat

import pytest

from tood.engine import signals
from tood.engine.signals import STOP_SIGNALS, StopRequest, TrainingInterrupted, requeue_job


@pytest.fixture
def stop():
    """Handlers as in a terminal, whatever the shell that runs the tests ignores."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in STOP_SIGNALS}
    request = StopRequest()
    request.install()
    yield request
    request.uninstall()
    for number, handler in before.items():
        assert signal.signal(number, handler) is signal.default_int_handler  # uninstalled


def send(number: int) -> None:
    # To this thread: those of OpenVINO, which other tests of the process load, crash on signals.
    signal.raise_signal(number)
    signal.sigpending()  # a moment for Python to call the handler


@pytest.mark.parametrize(
    "number, code",
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138), (signal.SIGHUP, 129)],
)
def test_exit_codes(stop, number, code):
    with pytest.raises(TrainingInterrupted) as end:
        send(number)
    assert end.value.code == code and end.value.signal_name == number.name
    assert isinstance(end.value, SystemExit)
    assert signals.exit_code(number, requeued=True) == 0


def test_deferred_signals_are_remembered(stop):
    with stop.deferred():
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1):
            send(number)
        assert stop.signum == signal.SIGUSR1


def test_one_ctrl_c_is_not_two(stop, monkeypatch):
    """A terminal sends it to all processes, and torchrun passes it on again."""
    now = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    with stop.deferred():
        send(signal.SIGINT)
        now[0] += 0.5
        send(signal.SIGINT)
        assert stop.signum == signal.SIGINT
        now[0] += 1.5
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_ctrl_c_while_stopping_for_another_reason(stop):
    with stop.deferred():
        send(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        assert stop.signum == signal.SIGTERM


def test_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    request = StopRequest()
    try:
        request.install()
        send(signal.SIGHUP)  # nohup
        assert request.signum is None
    finally:
        request.uninstall()
        assert signal.signal(signal.SIGHUP, before) is signal.SIG_IGN


def write_scontrol(folder, script: str) -> None:
    path = folder / "scontrol"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_requeue(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not requeue_job({"SLURM_JOB_ID": "7"})
    assert "no scontrol" in caplog.text
    write_scontrol(tmp_path, f'echo "$@" > {tmp_path}/called')
    assert not requeue_job({})
    assert "SLURM_JOB_ID is not set" in caplog.text
    assert requeue_job({"SLURM_JOB_ID": "7"})
    assert (tmp_path / "called").read_text() == "requeue 7\n"
    write_scontrol(tmp_path, "echo Access denied >&2; exit 1")
    assert not requeue_job({"SLURM_JOB_ID": "7"})
    assert "scontrol requeue 7 failed: Access denied" in caplog.text
