"""Find the checkpoint that a run resumes from: the last one, or the newest that is whole."""

import logging
import os
from pathlib import Path
from typing import NamedTuple

from ..errors import CheckpointError
from .info import CheckpointInfo, read_info, read_iteration
from .safe_load import is_whole, peek_file

logger = logging.getLogger(__name__)

# detectron2's file that holds the name of the last checkpoint.
LAST_CHECKPOINT = "last_checkpoint"
PREVIOUS_SUFFIX = ".previous"


def read_last_checkpoint(folder: str | os.PathLike[str]) -> Path | None:
    """The file that ``last_checkpoint`` names; it need not exist.

    Args:
        folder: of the run.

    Returns:
        A path in the folder, whatever the record says; the folder itself if it names no file; None
        if there is no record.
    """
    try:
        text = (Path(folder) / LAST_CHECKPOINT).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    name = Path(text.strip()).name
    usable = name not in ("", "..") and "\0" not in name
    return Path(folder) / name if usable else Path(folder)


def find_last_checkpoint(folder: str | os.PathLike[str], run_id: str | None = None) -> Path | None:
    """Find the checkpoint that a run resumes from.

    That is the one that ``last_checkpoint`` names. If it is missing or damaged, it is the newest
    whole one of the same run before it, with a warning.

    Args:
        folder: of the run.
        run_id: of the run; None accepts the checkpoints of any run.

    Returns:
        A whole file, or None if the folder has no ``last_checkpoint``.

    Raises:
        CheckpointError: no whole checkpoint is left, or the last one belongs to another run.
    """
    named = read_last_checkpoint(folder)
    if named is None:
        return None
    damaged: _Candidate | None = None
    if not named.is_file():
        name = named.name if named != Path(folder) else "no file"
        problem = f"{Path(folder) / LAST_CHECKPOINT} names {name}, which does not exist"
    elif is_whole(named):
        _require_run(named, peek_file(str(named)), run_id)
        return named
    else:
        problem = f"{named} is damaged"
        damaged = _read_candidate(named)
    found = _find_whole(Path(folder), named, damaged, run_id)
    if found is None:
        raise CheckpointError(
            f"{problem}, and {folder} holds no earlier checkpoint of the run that is whole. Copy "
            "one back into it, or start again without --resume."
        )
    logger.warning(
        "%s. Resuming from %s instead, the newest whole checkpoint before it (iteration %d).",
        problem,
        found.path,
        found.iteration,
    )
    return found.path


def set_aside_last_checkpoint(folder: str | os.PathLike[str]) -> Path | None:
    """Rename ``last_checkpoint``, so that a new run in the folder never resumes the old one.

    Args:
        folder: of the run. Its checkpoints stay.

    Returns:
        The file that the record named; None if there is no record.

    Raises:
        CheckpointError: the folder cannot be changed.
    """
    record = Path(folder) / LAST_CHECKPOINT
    named = read_last_checkpoint(folder)
    if named is None:
        return None
    previous = record.with_name(record.name + PREVIOUS_SUFFIX)
    try:
        os.replace(record, previous)
    except OSError as error:
        raise CheckpointError(
            f"{record} of an earlier run cannot be renamed ({error.strerror}). Set OUTPUT_DIR to "
            "another folder."
        ) from error
    logger.info(
        "%s holds an earlier run: its %s is now %s, and its checkpoints stay.",
        folder,
        LAST_CHECKPOINT,
        previous.name,
    )
    return named


def _require_run(path: Path, data: object, run_id: str | None) -> None:
    info = read_info(data, str(path))
    if run_id and info is not None and info.run_id and info.run_id != run_id:
        raise CheckpointError(
            f"{path} belongs to the run {info.run_id}, but {path.parent} is now the folder of the "
            f"run {run_id}. Start without --resume, or set OUTPUT_DIR to another folder."
        )


class _Candidate(NamedTuple):
    path: Path
    iteration: int
    run_id: str
    modified: float


def _read_candidate(path: Path) -> _Candidate | None:
    """What a checkpoint says about itself, without its tensors; None if that is not readable."""
    try:
        data = peek_file(str(path))
        modified = path.stat().st_mtime
    except (CheckpointError, OSError):
        return None
    iteration = read_iteration(data)
    if iteration is None:
        return None
    info = read_info(data, str(path)) or CheckpointInfo()
    return _Candidate(path, iteration, info.run_id, modified)


def _find_whole(
    folder: Path, named: Path, damaged: _Candidate | None, run_id: str | None
) -> _Candidate | None:
    """The newest whole checkpoint of the same run, other than ``named``."""
    paths = [path for path in folder.glob("*.pth") if path != named and path.is_file()]
    read = [x for x in map(_read_candidate, sorted(paths)) if x is not None]
    if not read:
        return None
    if not run_id:
        run_id = (damaged or max(read, key=lambda x: x.modified)).run_id
    newest_first = sorted(
        (
            x
            for x in read
            if x.run_id == run_id and (damaged is None or x.iteration <= damaged.iteration)
        ),
        key=lambda x: (x.iteration, x.modified),
        reverse=True,
    )
    return next((x for x in newest_first if is_whole(x.path)), None)
