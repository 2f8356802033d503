"""A file that locks a folder for one process, across machines that share the file system.

The lock names its holder, which rewrites it every 15 seconds. Of a process on the same machine,
the kernel says whether it still runs. Of any other, the file does: a lock that looks older than two
minutes is watched, and counts as abandoned if it does not change. The watching, not a comparison of
times, decides: clocks of machines differ.
"""

import json
import logging
import os
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..checkpoint.saving import os_error_reason, write_text
from ..errors import CheckpointError, ConfigError
from .processes import LaunchId, Process, is_running

logger = logging.getLogger(__name__)

LOCK_FILE = "run.lock"
HEARTBEAT_SECONDS = 15.0
STALE_SECONDS = 120.0

# A lock that looks abandoned is watched for two heartbeats and this many seconds: a network file
# system may show a change late.
WATCH_MARGIN = 5.0

# A file for whoever replaces an abandoned lock; it exists for milliseconds.
_TAKEOVER_FILE = "run.lock.takeover"
_TAKEOVER_SECONDS = 10.0


@dataclass(frozen=True)
class LockRecord:
    """The content of the lock.

    Attributes:
        token: random, of one holder.
        process: the holder.
        launch: what started it; see `LaunchId`.
        run_id: of the run.
        started: when it took the folder, as text for people.
        heartbeat: how often the holder has written the file.
    """

    token: str
    process: Process
    launch: LaunchId
    run_id: str
    started: str
    heartbeat: int = 0

    def to_json(self) -> str:
        """The text of the file."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "LockRecord":
        """Read `to_json`.

        Raises:
            ValueError: it is no such text.
        """
        try:
            fields = json.loads(text)
            process = Process(**fields.pop("process"))
            return cls(process=process, launch=LaunchId(**fields.pop("launch")), **fields)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(str(error)) from error


def take_lock(folder: Path, record: LockRecord, heartbeat: float, stale: float) -> str | None:
    """Create the lock, or replace one that is abandoned.

    Returns:
        A sentence about an abandoned one.

    Raises:
        ConfigError: another run holds it.
        CheckpointError: it cannot be written.
    """
    path = folder / LOCK_FILE
    while not _create(path, record.to_json()):
        current = read_lock(path)
        if current is None and not path.exists():
            continue  # released since
        reason = _why_abandoned(path, current, record, heartbeat, stale)
        if reason is None:
            raise ConfigError(in_use_message(folder, current))
        if _take_over(path, current, record):
            return f"Taking over {folder} from an earlier training{_by(current)}: {reason}."
    return None


def _why_abandoned(
    path: Path, current: LockRecord | None, mine: LockRecord, heartbeat: float, stale: float
) -> str | None:
    """Say why a lock may be taken over; None if it may not."""
    if current is not None:
        running = is_running(current.process)
        if running is not None:
            return None if running else "that process has ended without removing its lock"
        if mine.launch.restarts(current.launch):
            return "the launcher has started the same job again"
    if 0 <= _age(path) < stale:
        return None
    watched = 2 * heartbeat + WATCH_MARGIN
    logger.warning(
        "%s holds a lock%s that looks abandoned. Watching it for %.0f seconds.",
        path.parent,
        _by(current),
        watched,
    )
    before = _stamp(path)
    end = time.monotonic() + watched
    while time.monotonic() < end:
        time.sleep(min(1.0, heartbeat / 2))
        if _stamp(path) != before:
            return None
    return f"its lock has not changed for {watched:.0f} seconds"


def _age(path: Path) -> float:
    """Seconds since a file was written, both times by the clock of its file system."""
    probe = path.with_name(f".{uuid.uuid4().hex}.probe")
    try:
        probe.touch()
        now = probe.stat().st_mtime
        return now - path.stat().st_mtime
    except OSError:
        return -1.0
    finally:
        probe.unlink(missing_ok=True)


def _stamp(path: Path) -> tuple[Any, ...]:
    """What changes with each heartbeat."""
    try:
        return path.stat().st_mtime_ns, path.read_bytes()
    except OSError:
        return ()


def _create(path: Path, text: str) -> bool:
    """Create a file with its content in one step; False if there is one.

    Raises:
        CheckpointError: it cannot be written.
    """
    # Not named like other temporary files, which the winner of two starts removes.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(f"{path} cannot be written: {os_error_reason(error)}.") from error
    try:
        os.link(temporary, path)
        return True
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        return _create_empty(path, text)
    finally:
        temporary.unlink(missing_ok=True)


def _create_empty(path: Path, text: str) -> bool:
    """As `_create`, but the file is empty for a moment."""
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
        return True
    except FileExistsError:
        return False
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written: {os_error_reason(error)}.") from error


def _take_over(path: Path, current: LockRecord | None, mine: LockRecord) -> bool:
    """Replace an abandoned lock; of several processes that try, one succeeds."""
    guard = path.with_name(_TAKEOVER_FILE)
    if not _create(guard, mine.token):
        before, end = _stamp(guard), time.monotonic() + _TAKEOVER_SECONDS
        while _stamp(guard) == before and time.monotonic() < end:
            time.sleep(0.05)
        if _stamp(guard) == before:  # killed in this moment
            guard.unlink(missing_ok=True)
        return False
    try:
        if read_lock(path) != current:
            return False
        write_text(path, mine.to_json())
        return True
    finally:
        guard.unlink(missing_ok=True)


def read_lock(path: Path) -> LockRecord | None:
    """Read a lock; None if it is missing or damaged (a file system lost its content).

    Raises:
        ConfigError: it may not be read, because it is another user's.
    """
    try:
        return LockRecord.from_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except PermissionError as error:
        raise ConfigError(
            f"{path} is the lock of another user, and may not be read. Set OUTPUT_DIR to another "
            "folder."
        ) from error


def remove_lock(path: Path, record: LockRecord) -> None:
    """Remove a lock if it is still that of ``record``."""
    try:
        current = read_lock(path)
        if current is not None and current.token == record.token:
            path.unlink()
    except OSError as error:
        logger.warning("Cannot remove the lock %s: %s.", path, error.strerror)


def _by(record: LockRecord | None) -> str:
    if record is None:
        return ""
    return f" (process {record.process.pid} on {record.process.host}, since {record.started})"


def in_use_message(folder: Path, record: LockRecord | None) -> str:
    """Say who uses a folder."""
    return (
        f"{folder} is in use by another training{_by(record)}. Wait for it, stop it, or set "
        "OUTPUT_DIR to another folder."
    )
