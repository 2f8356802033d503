"""How the workers of a data loader end: not by signals, but with their training."""

import signal
import weakref
from collections.abc import Iterator
from multiprocessing.util import Finalize
from types import FrameType
from typing import Any

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


def end_workers_at_exit(batches: Iterator[Any]) -> None:
    """End the workers of a data loader's iterator before Python would, at the end of the process.

    After an error the iterator still exists then. Python would send SIGTERM to its workers, and
    wait for the minute that they go on for.
    """
    # Before the finalizers of queues, of 10, which would keep the message from the workers.
    Finalize(batches, _end_workers, args=(weakref.ref(batches),), exitpriority=100)


def _end_workers(reference: "weakref.ref[Any]") -> None:
    shut_down = getattr(reference(), "_shutdown_workers", None)
    if shut_down is not None:  # else there are no workers, or they have ended with the iterator
        shut_down()
