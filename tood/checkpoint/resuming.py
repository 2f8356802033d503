"""Find the checkpoint that a run resumes from: the last one, or the newest that is whole."""

import json
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
# The best checkpoint of a run, as detectron2's BestCheckpointer names it. It is for detection, not
# for resuming: a run goes on from where it was.
BEST_CHECKPOINT = "model_best.pth"
# Holds the id of the run that a folder belongs to.
RUN_FILE = "run.json"

# Of one file name, on all common file systems.
_MAX_NAME_BYTES = 255


def read_run_id(folder: str | os.PathLike[str]) -> str | None:
    """Return the id of the run that a folder holds; None if it holds none, or an older version's.

    Every process may call it, once the main process has the folder.
    """
    try:
        content = json.loads((Path(folder) / RUN_FILE).read_text(encoding="utf-8"))
        return str(content["run_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_checkpoint_run_id(folder: str | os.PathLike[str]) -> str | None:
    """Return the id of the run that wrote the checkpoint that ``last_checkpoint`` names.

    It stands for :func:`read_run_id` where checkpoints were copied without the other files.
    """
    named = read_last_checkpoint(folder)
    last = None if named is None else _read_candidate(named)
    return last.run_id or None if last is not None else None


def read_last_checkpoint(folder: str | os.PathLike[str]) -> Path | None:
    """The file that ``last_checkpoint`` names; it need not exist.

    Args:
        folder: of the run.

    Returns:
        A path in the folder, whatever the record says; the folder itself if it names no file; None
        if there is no record.

    Raises:
        CheckpointError: there is a record that cannot be read.
    """
    path = Path(folder) / LAST_CHECKPOINT
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}). Make it readable, or remove it."
        ) from error
    name = Path(text.strip()).name
    usable = name not in ("", "..") and "\0" not in name and len(name.encode()) <= _MAX_NAME_BYTES
    return Path(folder) / name if usable else Path(folder)


def has_best_checkpoint(folder: str | os.PathLike[str], run_id: str | None = None) -> bool:
    """Whether a folder holds the best checkpoint of a run, as far as its header can be read.

    Args:
        folder: of the run.
        run_id: of the run; None accepts that of any run.
    """
    best = _read_candidate(Path(folder) / BEST_CHECKPOINT)
    return best is not None and (run_id is None or best.run_id == run_id)


def find_last_checkpoint(folder: str | os.PathLike[str], run_id: str | None = None) -> Path | None:
    """Find the checkpoint that a run resumes from.

    That is the one that ``last_checkpoint`` names. If it is missing or damaged, it is the newest
    whole one of the same run before it, with a warning. The same if there is no ``last_checkpoint``
    but there are checkpoints of the run.

    Args:
        folder: of the run.
        run_id: of the run; None accepts the checkpoints of any run.

    Returns:
        A whole file, or None if there is nothing to resume.

    Raises:
        CheckpointError: no whole checkpoint is left, or the last one belongs to another run.
    """
    named = read_last_checkpoint(folder)
    if named is None:
        return None if run_id is None else _find_unnamed(Path(folder), run_id)
    damaged: _Candidate | None = None
    if not named.is_file():
        exists = "no file" if named == Path(folder) else f"{named.name}, which does not exist"
        problem = f"{Path(folder) / LAST_CHECKPOINT} names {exists}"
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


def _find_unnamed(folder: Path, run_id: str) -> Path | None:
    """The newest whole checkpoint of a run whose ``last_checkpoint`` is gone."""
    set_aside = folder / f"{LAST_CHECKPOINT}{PREVIOUS_SUFFIX}"
    if set_aside.is_file():
        try:
            name = Path(set_aside.read_text(encoding="utf-8").strip()).name
        except (OSError, ValueError):
            return None
        last = _read_candidate(folder / name)
        if last is None or last.run_id == run_id:
            return None  # a new run has taken the folder, and was killed before it had an id
    found = _find_whole(folder, folder, None, run_id)
    if found is None:
        return None
    logger.warning(
        "%s is missing. Resuming from %s, the newest whole checkpoint of the run (iteration %d).",
        folder / LAST_CHECKPOINT,
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
    paths = [
        path
        for path in folder.glob("*.pth")
        if path != named and path.name != BEST_CHECKPOINT and path.is_file()
    ]
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
