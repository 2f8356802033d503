"""Processes that this program starts: their signals, their errors, and their end."""

import contextlib
import json
import multiprocessing
import os
import signal
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from detectron2.utils import comm

from tood.cli.common import exit_on_user_error
from tood.compat import compute_on_main_process
from tood.engine import Trainer, child_processes, launch
from tood.engine.failures import FailureReport
from tood.engine.launchers import Launcher
from tood.engine.signals import stop_request
from tood.errors import DataError
from tood_runtime.cli import parse


def options(line: str = "") -> Namespace:
    return parse(["train", "M", *line.split()])[1]


def ranks(folder: Path) -> None:
    total = torch.tensor([2.0 ** comm.get_rank()])
    torch.distributed.all_reduce(total)
    local = comm.get_local_rank(), comm.get_local_size()
    text = json.dumps([comm.get_rank(), comm.get_world_size(), *local, total.item()])
    (folder / f"{comm.get_rank()}.json").write_text(text)


def broken_data_everywhere(_: Path) -> None:
    def read() -> None:
        raise DataError("train.json is broken.")

    compute_on_main_process(read)


def broken_image_of_one(_: Path) -> None:
    if comm.get_rank() == 1:
        raise DataError("cat.jpg is broken.")
    comm.synchronize()


def killed(_: Path) -> None:
    if comm.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def stopped(folder: Path) -> None:
    stop_request.install()
    with stop_request.deferred():
        (folder / str(comm.get_rank())).write_text(str(os.getpid()))
        while stop_request.signum is None:
            time.sleep(0.01)
        time.sleep(0.2 * comm.get_rank())
        (folder / f"{comm.get_rank()}.saved").write_text("")
        sys.exit(128 + stop_request.signum)


def work(args: Namespace, place: Launcher | None) -> None:
    torch.set_num_threads(1)
    report = FailureReport(place)
    with report.wait_for_others(), exit_on_user_error(), report.only_first():
        launch.join(place, "cpu")
        args.function(args.folder)


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts a process that starts the others; all are gone after the test."""
    fork = multiprocessing.get_context("fork")
    monkeypatch.setattr(child_processes.multiprocessing, "get_context", lambda _: fork)
    monkeypatch.setattr(child_processes, "GRACE_SECONDS", 1.0)
    started = []

    def fork_and_start(function, machine: str = "--num-gpus 2") -> int:
        pid = os.fork()
        if pid:
            started.append(pid)
            return pid
        code = 1
        try:
            os.setpgid(0, 0)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
            args = options(machine)
            args.function, args.folder = function, tmp_path
            code = launch.start(work, args, None, on_cpu=True)
        finally:
            os._exit(code)

    yield fork_and_start
    for pid in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def read_errors(capfd) -> list[str]:
    text = capfd.readouterr().err
    assert "Traceback" not in text, text
    return [line for line in text.splitlines() if line.startswith("error:")]


def test_two_processes_on_the_cpu(start, tmp_path, capfd):
    assert wait(start(ranks)) == 0
    assert read_errors(capfd) == []
    rows = [(tmp_path / f"{rank}.json").read_text() for rank in (0, 1)]
    assert rows == ["[0, 2, 0, 2, 3.0]", "[1, 2, 1, 2, 3.0]"]


def test_two_machines_on_loopback(start, tmp_path, capfd):
    url, store = launch.open_store(None, host_it=True)
    del store  # a port that was free a moment ago
    line = f"--num-gpus 1 --num-machines 2 --dist-url {url} --machine-rank"
    assert [wait(pid) for pid in [start(ranks, f"{line} {i}") for i in (0, 1)]] == [0, 0]
    assert read_errors(capfd) == []
    rows = [(tmp_path / f"{rank}.json").read_text() for rank in (0, 1)]
    assert rows == ["[0, 2, 0, 1, 3.0]", "[1, 2, 0, 1, 3.0]"]


@pytest.mark.parametrize(
    "function, message",
    [
        (broken_data_everywhere, "error: train.json is broken."),
        (broken_image_of_one, "error: cat.jpg is broken."),
    ],
)
def test_an_error_is_reported_once_and_ends_all(start, capfd, function, message):
    assert wait(start(function)) == 2
    assert read_errors(capfd) == [message]


def test_killed_process_ends_the_others(start, capfd):
    assert wait(start(killed)) == 137
    assert read_errors(capfd) == []


def wait_for(*paths) -> list[int]:
    end = time.monotonic() + 120
    while not all(path.is_file() and path.read_text() for path in paths):
        assert time.monotonic() < end
        time.sleep(0.05)
    return [int(path.read_text()) for path in paths]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    "number, code", [(signal.SIGTERM, 143), (signal.SIGUSR1, 138), (signal.SIGINT, 130)]
)
def test_signal_to_the_parent_reaches_all(start, tmp_path, monkeypatch, number, code):
    monkeypatch.setattr(child_processes, "GRACE_SECONDS", 30.0)  # the machine may be busy
    parent = start(stopped)
    pids = wait_for(tmp_path / "0", tmp_path / "1")
    os.kill(parent, number)
    assert wait(parent) == code
    assert not any(map(is_alive, pids))
    # The slower one was not killed by the exit code of the faster one.
    assert (tmp_path / "0.saved").is_file() and (tmp_path / "1.saved").is_file()


def test_processes_stop_when_their_parent_is_killed(start, tmp_path):
    parent = start(stopped)
    wait_for(tmp_path / "0", tmp_path / "1")
    os.kill(parent, signal.SIGKILL)
    assert wait(parent) == -signal.SIGKILL
    end = time.monotonic() + 60
    while not all((tmp_path / f"{rank}.saved").is_file() for rank in (0, 1)):
        assert time.monotonic() < end
        time.sleep(0.05)


def can_train_after_fork() -> bool:
    """PyTorch refuses where this process has started autograd's threads, as torch.export does."""
    pid = os.fork()
    if pid == 0:
        try:
            torch.ones(1, requires_grad=True).sum().backward()
        except RuntimeError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def test_trainer_in_two_processes_on_the_cpu(start, run_cfg, tmp_path, capfd):
    """detectron2 passes the rank as a GPU to DistributedDataParallel, which a CPU model refuses."""
    if not can_train_after_fork():
        pytest.skip("an earlier test of this process has started autograd's threads")
    run_cfg.SOLVER.MAX_ITER, run_cfg.SOLVER.EMA.ENABLED = 2, True

    def train_and_compare(folder: Path) -> None:
        # detectron2's evaluation waits for a GPU, which a forked process cannot.
        torch.cuda.is_available = lambda: False
        trainer = Trainer(run_cfg)
        assert type(trainer._trainer.model).__name__ == "DistributedDataParallel"
        trainer.train()
        total = sum(p.double().sum().item() for p in trainer.model.parameters())
        assert comm.all_gather(total) == [total, total]
        (folder / f"{comm.get_rank()}.done").write_text("")

    assert wait(start(train_and_compare)) == 0, capfd.readouterr().err
    assert (tmp_path / "0.done").is_file() and (tmp_path / "1.done").is_file()
    assert (tmp_path / "model_final.pth").is_file()
