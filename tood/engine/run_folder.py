"""A training's OUTPUT_DIR: one run at a time writes into it, and it knows which run it holds."""

import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from ..checkpoint.resuming import RUN_FILE, read_checkpoint_run_id, read_run_id
from ..checkpoint.saving import make_folder, os_error_reason, remove_temporary_files, write_text
from ..errors import CheckpointError, ConfigError
from .lock_file import (
    HEARTBEAT_SECONDS,
    LOCK_FILE,
    STALE_SECONDS,
    LockRecord,
    in_use_message,
    read_lock,
    remove_lock,
    take_lock,
)
from .processes import LaunchId, this_process

logger = logging.getLogger(__name__)


class RunFolder:
    """The lock on a folder, held from `acquire` to `release`.

    Use it in the main process only, as a context manager:

        with RunFolder.acquire(cfg.OUTPUT_DIR, resume=args.resume) as folder:
            ...

    Attributes:
        path: of the folder.
        run_id: random for a new run; that of the folder for a resumed one.
        notes: what is to be logged as a warning, once there is a log.
    """

    def __init__(self, path: Path, record: LockRecord, heartbeat_seconds: float) -> None:
        self.path = path
        self.run_id = record.run_id
        self.notes: list[str] = []
        self._record = record
        self._seconds = heartbeat_seconds
        self._pid = os.getpid()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="run-folder", daemon=True)

    @classmethod
    def acquire(
        cls,
        path: str | os.PathLike[str],
        *,
        resume: bool = False,
        environ: Mapping[str, str] | None = None,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        stale_seconds: float = STALE_SECONDS,
    ) -> "RunFolder":
        """Create the folder if needed, and lock it.

        Args:
            path: the folder.
            resume: continue the run that it holds, if any.
            environ: the environment variables, which tell the launcher's restart of a job from
                another job; by default those of this process.
            heartbeat_seconds: how often the lock is rewritten.
            stale_seconds: the age at which the lock of another machine looks abandoned.

        Raises:
            ConfigError: another run uses the folder, or it cannot be written.
        """
        folder = Path(path)
        run_id = _resumed_run_id(folder) if resume else None
        record = LockRecord(
            token=uuid.uuid4().hex,
            process=this_process(),
            launch=LaunchId.of(os.environ if environ is None else environ),
            run_id=run_id or uuid.uuid4().hex[:12],
            started=time.strftime("%Y-%m-%d %H:%M:%S %z"),
        )
        try:
            make_folder(folder)
            reason = take_lock(folder, record, heartbeat_seconds, stale_seconds)
            remove_temporary_files(folder)  # nobody else is writing into it now
        except CheckpointError as error:
            remove_lock(folder / LOCK_FILE, record)
            raise ConfigError(str(error)) from error
        except OSError as error:
            remove_lock(folder / LOCK_FILE, record)
            raise ConfigError(
                f"The folder {folder} cannot be written: {os_error_reason(error)}."
            ) from error
        held = cls(folder, record, heartbeat_seconds)
        held.notes += [] if reason is None else [reason]
        held._thread.start()
        return held

    def write_run_file(self) -> None:
        """Write `RUN_FILE`: from here on, the folder holds this run.

        Raises:
            CheckpointError: it cannot be written.
        """
        record = self._record
        run = {"run_id": record.run_id, "started": record.started, "host": record.process.host}
        write_text(self.path / RUN_FILE, json.dumps(run, indent=1) + "\n")

    def release(self) -> None:
        """Remove the lock, if it is still ours. Does nothing in a forked process, or twice."""
        if os.getpid() != self._pid or self._stopped.is_set():
            return
        self._stopped.set()
        self._thread.join(timeout=5)
        remove_lock(self.path / LOCK_FILE, self._record)

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _beat(self) -> None:
        """Rewrite the lock now and then, in a thread."""
        count, failed = 0, False
        while not self._stopped.wait(self._seconds):
            count += 1
            path = self.path / LOCK_FILE
            try:
                current = read_lock(path)
            except OSError:
                continue  # a network file system that is away for a moment
            if current is not None and current.token != self._record.token:
                # This process was suspended for minutes, and another has started since. Both would
                # write the same files, so this one ends without writing anything.
                logger.critical("%s Ending this process.", in_use_message(self.path, current))
                os._exit(2)
            fields = {**vars(self._record), "heartbeat": count}
            try:
                write_text(path, LockRecord(**fields).to_json())
                failed = False
            except CheckpointError as error:  # the training itself will notice a full disk
                if not failed:
                    logger.warning("%s", error)
                failed = True


def _resumed_run_id(folder: Path) -> str | None:
    try:
        return read_run_id(folder) or read_checkpoint_run_id(folder)
    except CheckpointError:
        return None  # said again where the checkpoint is read


def holds_training(folder: str | os.PathLike[str]) -> bool:
    """Whether a training has written into a folder, or is about to."""
    path = Path(folder)
    names = (RUN_FILE, LOCK_FILE, "last_checkpoint", "metrics.json")
    return any((path / name).exists() for name in names) or any(path.glob("model_*.pth"))


def evaluation_folder(output_dir: str) -> str:
    """Where an evaluation writes: next to a training's files, never over them.

    Args:
        output_dir: ``OUTPUT_DIR``.

    Returns:
        The folder itself, or its subfolder ``evaluation`` if it holds a training.
    """
    return os.path.join(output_dir, "evaluation") if holds_training(output_dir) else output_dir
