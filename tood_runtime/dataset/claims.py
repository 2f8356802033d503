"""Which process works on which shard: locks on bytes of one file.

The system drops the locks of a process that ends, however it ends, so none is ever left behind.
Only the amount of work depends on them: where a file system has no locks, two processes may run the
same shard, and the second one replaces its file by an equal one.
"""

import errno
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..output_files import OutputError

logger = logging.getLogger(__name__)

#: What is claimed, besides shards: the right to list the images, and to finish the run.
LISTING, FINISHING = -2, -1

_HELD_BY_ANOTHER = (errno.EACCES, errno.EAGAIN)
_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 30.0


class Claims:
    """The claims of this process on a file that all processes share.

    Args:
        path: the file; it is created.

    Raises:
        OutputError: it cannot be created.

    Attributes:
        are_locks: whether other processes see them; found out with the first claim.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.are_locks = True
        try:
            # Never opened again: closing any descriptor of the file drops all locks of a process.
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise OutputError(
                f"Cannot write {path}: {error.strerror}. Choose another --output folder."
            ) from error

    def close(self) -> None:
        """Drop all claims."""
        os.close(self._file)

    def try_claim(self, item: int) -> bool:
        """Claim a shard by its index; False if another process has it."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _offset(item))
        except OSError as error:
            if error.errno in _HELD_BY_ANOTHER:
                return False
            if self.are_locks:
                self.are_locks = False
                logger.warning(
                    "The file system of %s has no locks (%s), so several processes may work on "
                    "the same images. Results stay right.",
                    self.path,
                    error.strerror,
                )
        return True

    def release(self, item: int) -> None:
        """Let others claim it."""
        if self.are_locks:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _offset(item))

    @contextmanager
    def held(self, item: int, purpose: str) -> Iterator[None]:
        """Wait for a claim, and release it afterward.

        Args:
            item: what to claim.
            purpose: of the process that has it, for the log.
        """
        start, warned = time.monotonic(), False
        while not self.try_claim(item):
            if not warned and time.monotonic() - start > _PATIENCE_SECONDS:
                logger.info("Waiting for another process, which %s.", purpose)
                warned = True
            time.sleep(_POLL_SECONDS)
        try:
            yield
        finally:
            self.release(item)


def _offset(item: int) -> int:
    return item - LISTING
