"""Signals in the workers of a data loader."""

import signal
from types import FrameType

# Seconds that a worker goes on after SIGTERM: the training needs it until the end of its step.
WORKER_SECONDS = 60


def outlive_stop_signals(_: int) -> None:
    """Let a worker go on while its training stops; a ``worker_init_fn``.

    Terminals (Ctrl-C), SLURM and ``kill -- -GROUP`` send a signal to all processes. The training
    finishes its step and saves a checkpoint; if a worker has ended, PyTorch stops it before. A
    worker ends with its training, and at the latest a minute after SIGTERM.
    """
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_later)


def _end_later(_: int, __: FrameType | None) -> None:
    signal.alarm(WORKER_SECONDS)
