"""The processes that ``tood train --num-gpus N`` starts: they stop together, and with it."""

import argparse
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from .launchers import Launcher
from .signals import STOP_SIGNALS

# Seconds that the others get to end, or to finish a checkpoint, once one process has failed or has
# stopped. They may wait for it forever otherwise.
GRACE_SECONDS = 30.0

ProcessFunction = Callable[[argparse.Namespace, Launcher | None], Any]


def run_processes(
    function: ProcessFunction,
    args: argparse.Namespace,
    places: list[Launcher],
    independent: bool = False,
) -> int:
    """Run a process for each place; return the exit code of the first that fails, or 0.

    Signals that this process gets are passed on, and it ends after the others.

    Args:
        function: called in each process with ``args`` and its place.
        args: the command line.
        places: of the processes.
        independent: whether the others go on when one has failed; otherwise they are killed, after
            :data:`GRACE_SECONDS`.
    """
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_run_one, args=(function, args, p)) for p in places]

    def forward(number: int, _: FrameType | None) -> None:
        for process in processes:
            if process.is_alive() and process.pid is not None:
                os.kill(process.pid, number)

    is_main_thread = threading.current_thread() is threading.main_thread()
    previous = {}
    # While they are blocked, signals wait: the new processes inherit that until they can handle
    # them.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        for process in processes:
            process.start()
        if is_main_thread:
            previous = {
                number: signal.signal(number, forward)
                for number in STOP_SIGNALS
                if signal.getsignal(number) is not signal.SIG_IGN
            }
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return _wait_for(processes, float("inf") if independent else GRACE_SECONDS)
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _wait_for(processes: Sequence[BaseProcess], grace_seconds: float) -> int:
    """Wait until all processes have ended; kill those that stay long after the first has failed."""
    failed, deadline = 0, float("inf")
    while running := [process for process in processes if process.exitcode is None]:
        connection.wait([process.sentinel for process in running], timeout=1)
        codes = [process.exitcode for process in processes if process.exitcode]
        if codes and not failed:
            failed, deadline = codes[0], time.monotonic() + grace_seconds
        if time.monotonic() > deadline:
            for process in running:
                process.kill()
    codes = [process.exitcode for process in processes if process.exitcode]
    failed = failed or (codes[0] if codes else 0)
    return 128 - failed if failed < 0 else failed  # a signal, as a shell reports it


def _run_one(function: ProcessFunction, args: argparse.Namespace, place: Launcher) -> None:
    """What a new process runs."""
    parent = multiprocessing.parent_process()
    stop_with_parent(os.getppid() if parent is None or parent.pid is None else parent.pid)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    function(args, place)


def stop_with_parent(parent: int) -> None:
    """Ask this process to stop, by SIGTERM, when its parent has ended; it would go on alone.

    Args:
        parent: number of the process that has started this one.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
