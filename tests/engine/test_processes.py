"""Processes, and the launches that they belong to."""

import os
from dataclasses import replace

import pytest

from tood.engine import processes
from tood.engine.processes import LaunchId, is_running, restart_count, this_process


def test_jobs_without_a_name_of_their_own():
    """torchrun calls all jobs "none" unless --rdzv-id is given."""
    start = {"TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": "1"}
    assert not LaunchId.of(start).restarts(LaunchId.of({"TORCHELASTIC_RUN_ID": "none"}))
    assert not LaunchId.of({}).restarts(LaunchId.of({}))


def test_pod_of_the_same_name(monkeypatch):
    """Kubernetes starts a container again in its pod, or a pod of the same name."""
    environ = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    monkeypatch.setattr(processes.time, "time", lambda: 100.0)
    before = LaunchId.of(environ)
    monkeypatch.setattr(processes.time, "time", lambda: 200.0)
    assert LaunchId.of(environ).restarts(before) and not before.restarts(LaunchId.of(environ))


@pytest.mark.parametrize(
    "environ, count",
    [
        ({}, 0),
        ({"SLURM_RESTART_COUNT": "0", "TORCHELASTIC_RESTART_COUNT": "0"}, 0),
        ({"SLURM_RESTART_COUNT": "2", "TORCHELASTIC_RESTART_COUNT": "0"}, 2),
        ({"SLURM_RESTART_COUNT": "2", "TORCHELASTIC_RESTART_COUNT": "1"}, 1),
        ({"SLURM_RESTART_COUNT": "x"}, 0),
    ],
)
def test_restart_count(environ, count):
    assert restart_count(environ) == count


def test_process_description():
    me = this_process()
    assert me.pid == os.getpid() and is_running(me) is True
    assert is_running(replace(me, pid=2**22 + 1)) is False
    assert is_running(replace(me, host="elsewhere")) is None
    assert int(me.start) > 0  # not the name of the process, which may contain spaces and brackets
