"""When one process of several fails, it reports its error, and the others end without theirs.

The others fail as well: at the same error, or because the first one does not answer any more.
PyTorch's store, through which the processes have met, knows who was first.
"""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from detectron2.utils import comm
from torch.distributed import distributed_c10d

from ..errors import ConfigError
from .launchers import Launcher

logger = logging.getLogger(__name__)

# Seconds that a main process which has the store waits for the others to look at it.
WAIT_SECONDS = 5.0


class JoinError(ConfigError):
    """A process cannot join the others."""


class FailureReport:
    """Decides whether this process reports its error, or another one has done so.

    Args:
        launcher: the place of this process; None if it is alone.
    """

    def __init__(self, launcher: Launcher | None) -> None:
        self._launcher = launcher
        self._is_first: bool | None = None

    @contextmanager
    def only_first(self) -> Iterator[None]:
        """Let the first process that fails raise its error, and the others exit with code 2.

        Before the processes have met, the first process of each machine counts as the first.
        """
        trace_log = logging.getLogger("detectron2.engine.train_loop")
        trace_log.addFilter(self._reports)  # it logs a stack trace of whatever ends it
        try:
            yield
        except JoinError:
            raise  # each process has its own reason, and cannot know the others'
        except Exception as error:
            if self.is_first():
                raise
            logger.debug("Another process has failed before: %s", error)
            sys.exit(2)
        finally:
            trace_log.removeFilter(self._reports)

    @contextmanager
    def wait_for_others(self) -> Iterator[None]:
        """After an error, keep the store open until the others have looked at it.

        Only the main process may have to wait: srun's or PyTorchJob's has the store. That of
        torchrun and of ``tood train --num-gpus N`` is in the process that has started the others.
        """
        try:
            yield
        except BaseException:
            if self._launcher is not None and self._launcher.has_store and self._is_first:
                end = time.monotonic() + WAIT_SECONDS
                while time.monotonic() < end and _count(0) < comm.get_world_size():
                    time.sleep(0.05)
            raise

    def is_first(self) -> bool:
        """Whether this process, which fails now, is the first."""
        if self._is_first is None:
            if self._launcher is None or self._launcher.world_size == 1:
                self._is_first = True
            elif comm.get_world_size() == 1:
                self._is_first = self._launcher.local_rank == 0
            else:
                self._is_first = _count(1) <= 1
        return self._is_first

    def _reports(self, record: logging.LogRecord) -> bool:
        return not record.exc_info or self.is_first()


def _count(increment: int) -> int:
    """Count the processes that have failed; 0 if the store is gone."""
    try:
        # There is no public way to the store.
        return int(distributed_c10d._get_default_store().add("tood failures", increment))
    except (RuntimeError, ValueError):
        return 0
