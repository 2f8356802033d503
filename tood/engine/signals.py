"""Signals that ask a training to stop: it saves a checkpoint first, and its exit code says why.

Exit codes: 128 plus the number of the signal, as a shell reports it (143 for SIGTERM, 130 for
Ctrl-C, 138 for SIGUSR1), or 0 after SIGUSR1 where SLURM was asked to start the job again
(``tood train --requeue``).
"""

import logging
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)

# SIGHUP: the terminal or the SSH connection is gone. SIGUSR1: what SLURM sends before the time
# limit, with sbatch --signal=USR1@120.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)

# Seconds in which a second SIGINT is taken for the same Ctrl-C: the terminal sends it to all
# processes of its group, and a launcher among them (torchrun) passes it on once more.
SAME_SIGINT = 1.0


class TrainingInterrupted(SystemExit):
    """A signal has ended the training; the exit code is that of `exit_code`.

    Args:
        signum: the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(exit_code(signum))
        self.signum = signum

    @property
    def signal_name(self) -> str:
        """Such as "SIGTERM"."""
        return signal.Signals(self.signum).name


def exit_code(signum: int, requeued: bool = False) -> int:
    """The exit code of a training that a signal has stopped.

    Args:
        signum: the signal.
        requeued: whether SLURM was asked to start the job again.
    """
    return 0 if requeued else 128 + signum


class StopRequest:
    """Remembers which signal has asked this process to stop.

    Outside of `deferred`, a signal ends the process at once, by raising TrainingInterrupted in the
    main thread: there is nothing to save. Inside, the first one is remembered in `signum`, and
    whoever trains looks at it after each step. Further signals do nothing while the process stops,
    except that one more Ctrl-C raises KeyboardInterrupt, which ends it at once.

    Signals that the process was started to ignore stay ignored (``nohup``).

    Attributes:
        signum: the first signal; None if there was none.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._deferred = False
        self._last_sigint = -SAME_SIGINT
        self._previous: dict[int, object] = {}

    def install(self) -> None:
        """Handle the signals. Does nothing outside of the main thread, where Python cannot."""
        if threading.current_thread() is not threading.main_thread() or self._previous:
            return
        self.signum = None
        for number in STOP_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._handle)

    def uninstall(self) -> None:
        """Restore the handlers that `install` has replaced."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous.clear()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals for a while, unless they are handled already."""
        was_installed = bool(self._previous)
        self.install()
        try:
            yield
        finally:
            if not was_installed:
                self.uninstall()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """While training: remember a signal instead of ending the process."""
        with self.installed():
            self._deferred = True
            try:
                yield
            finally:
                self._deferred = False

    def _handle(self, number: int, _: FrameType | None) -> None:
        repeated = False
        if number == signal.SIGINT:
            now = time.monotonic()
            repeated = now - self._last_sigint < SAME_SIGINT
            if not repeated:
                self._last_sigint = now
        if self.signum is None:
            self.signum = number
            if not self._deferred:
                raise TrainingInterrupted(number)
        elif number == signal.SIGINT and not repeated:
            raise KeyboardInterrupt


stop_request = StopRequest()
"""That of this process: handlers of signals belong to a whole process."""


def requeue_job(environ: Mapping[str, str] | None = None) -> bool:
    """Put the SLURM job of this process back into the queue: ``scontrol requeue``.

    Call it in one process, after the checkpoint is written: SLURM then ends the job, and starts it
    again with the same id and SLURM_RESTART_COUNT, which implies ``--resume``.

    Args:
        environ: the environment variables; by default those of this process.

    Returns:
        Whether SLURM accepted it. If not, a warning says why.
    """
    job = (os.environ if environ is None else environ).get("SLURM_JOB_ID")
    program = shutil.which("scontrol")
    if not job or program is None:
        missing = "SLURM_JOB_ID is not set" if not job else "there is no scontrol on this machine"
        logger.warning("The job is not requeued: %s.", missing)
        return False
    command = [program, "requeue", job]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        logger.warning("The job is not requeued: scontrol requeue %s failed: %s", job, reason)
        return False
    logger.info("SLURM will start job %s again (scontrol requeue).", job)
    return True
