"""A signal to all processes of a training leaves its loader's workers at work."""

import os
import signal

import pytest
from torch.utils.data import Dataset

from tood.data.batches import start_fetching


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
