"""How workers end: not by a signal to all processes of a training, but at once with its loader."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
from torch.utils.data import Dataset

from tests.helpers import ROOT
from tood.data import TrainLoader
from tood.data.batches import TrainingBatches, start_fetching


class Signaled(Dataset):
    """Sends a signal to the worker that asks for the second item."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __getitem__(self, index: int) -> int:
        if index == 1:
            os.kill(os.getpid(), self.number)
        return index


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_workers_outlive_signals(number):
    assert list(start_fetching(Signaled(number), range(4), num_workers=1)) == [0, 1, 2, 3]


def test_workers_end_with_a_process_that_fails(tmp_path):
    """And not a minute after it, as they would after SIGTERM."""
    script = tmp_path / "fail.py"
    script.write_text(
        "import builtins\n"
        "from tood.data.batches import start_fetching\n"
        "from tests.data.test_worker_signals import Signaled\n"
        "builtins.batches = start_fetching(Signaled(0), range(9000), num_workers=2)\n"
        "next(builtins.batches)\n"
        "print('fails', flush=True)\n"
        "raise SystemExit(3)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    with (tmp_path / "errors.txt").open("w") as errors, subprocess.Popen(
        [sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, stderr=errors
    ) as process:  # fmt: skip
        assert process.stdout.readline() == b"fails\n"
        assert process.wait(timeout=50) == 3
    assert "Traceback" not in (tmp_path / "errors.txt").read_text()


def test_workers_end_at_once(loader_cfg, images):
    """PyTorch waits 5 seconds for each that has not got the message, and ends it by SIGTERM."""
    loader_cfg.DATALOADER.NUM_WORKERS = 2
    whole = TrainingBatches(loader_cfg, images, lambda x: x)
    batches = TrainingBatches(loader_cfg, images, lambda x: x)
    others = multiprocessing.active_children()  # of tests before, in the same process
    first = next(batches)
    workers = [x for x in multiprocessing.active_children() if x not in others]
    start = time.monotonic()
    TrainLoader(batches, len(images)).close()
    assert time.monotonic() - start < 4
    assert len(workers) == 2 and not any(worker.is_alive() for worker in workers)
    for expected in (first, next(batches)):  # started again, at its place
        assert [x["file_name"] for x in next(whole)] == [x["file_name"] for x in expected]
