"""Write files whole or not at all: a crash, a kill or a full disk leaves the previous file intact.

A file is written under a temporary name in the same folder, synced to the disk and renamed, which
file systems do in one step. Then the folder is synced, so that the new name survives a power cut.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ..errors import CheckpointError
from .reader.kinds import DamagedCheckpointError
from .safe_load import peek_file

# Temporary files are named .NAME.PID + this.
_TEMPORARY_SUFFIX = ".tood-tmp"

_REASONS = {
    errno.ENOSPC: "the disk is full. Free some space, or set OUTPUT_DIR to another disk",
    errno.EDQUOT: "the disk quota is used up. Free some space, or set OUTPUT_DIR to another disk",
    errno.EFBIG: "the file would exceed the largest size that is allowed. Raise the limit "
    "(ulimit -f), or set OUTPUT_DIR to another disk",
    errno.EROFS: "the file system is read-only. Set OUTPUT_DIR to another folder",
    errno.EACCES: "permission denied. Set OUTPUT_DIR to a folder that you may write",
    errno.EPERM: "permission denied. Set OUTPUT_DIR to a folder that you may write",
    errno.ENAMETOOLONG: "its name is too long. Set OUTPUT_DIR to a shorter path",
    errno.ENOENT: "the folder was removed meanwhile. Create it again",
}


class _RecordingFile:
    """A file for ``torch.save`` that keeps the error of a failed write.

    PyTorch's writer replaces the error by one of its own, without the reason.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write all of ``data``; after a failed write, fail again."""
        if self.error is not None:
            raise self.error
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        """Pass what is buffered to the operating system."""
        if self.error is None:
            self._file.flush()


def write_checkpoint(data: Any, path: str | os.PathLike[str]) -> None:
    """Write ``data`` with ``torch.save``, with a checksum (CRC-32) of every tensor, atomically.

    Args:
        data: tensors and plain values in dictionaries and lists.
        path: the file; an existing one is replaced. The folder is created.

    Raises:
        CheckpointError: the file cannot be written, or ``data`` has objects that no reader
            accepts. What was there before is intact.
    """
    path = Path(path)
    recorder: list[_RecordingFile] = []

    def write(file: BinaryIO) -> None:
        recorder.append(_RecordingFile(file))
        with _checksums():
            torch.save(data, recorder[0])

    try:
        make_folder(path.parent)
        _replace(path, write, _require_readable)
    except (OSError, RuntimeError) as error:
        cause = recorder[0].error if recorder else None
        cause = cause or (error if isinstance(error, OSError) else None)
        if cause is None:
            raise
        raise CheckpointError(_message(path, cause, "checkpoint")) from error


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a small text file in UTF-8, atomically.

    Args:
        path: the file; an existing one is replaced. Its folder must exist.
        text: its content.

    Raises:
        CheckpointError: the file cannot be written, and what was there before is intact.
    """
    write_bytes(path, text.encode())


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file, atomically; see `write_text`.

    Raises:
        CheckpointError: see `write_text`.
    """
    path = Path(path)
    try:
        _replace(path, lambda file: _write_bytes(file, data))
    except OSError as error:
        raise CheckpointError(_message(path, error, "file")) from error


def remove_temporary_files(folder: str | os.PathLike[str]) -> list[str]:
    """Remove the temporary files that killed runs left behind.

    Call it only while no other process writes into the folder, for example with its lock held.

    Args:
        folder: of checkpoints; it need not exist.

    Returns:
        The names of the removed files.
    """
    removed: list[str] = []
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return removed
    for name in names:
        if name.startswith(".") and name.endswith(_TEMPORARY_SUFFIX):
            try:
                os.unlink(os.path.join(folder, name))
            except OSError:
                continue
            removed.append(name)
    return removed


def make_folder(folder: str | os.PathLike[str]) -> None:
    """Create a folder and its parents.

    Raises:
        CheckpointError: it cannot be created, for example because it is a file.
    """
    try:
        os.makedirs(folder or ".", exist_ok=True)
    except OSError as error:
        raise CheckpointError(_folder_message(Path(folder), error)) from error


def _folder_message(folder: Path, error: OSError) -> str:
    for part in (folder, *folder.parents):
        if part.exists() and not part.is_dir():
            return (
                f"The folder {folder} cannot be created: {part} is a file. Remove it, or set "
                "OUTPUT_DIR to another folder."
            )
    return f"The folder {folder} cannot be created: {os_error_reason(error)}."


def os_error_reason(error: OSError) -> str:
    """Say why a file cannot be written, and what helps."""
    return _REASONS.get(error.errno or 0, f"{error.strerror or error}. Check the disk")


def _message(path: Path, error: OSError, what: str) -> str:
    if not path.parent.is_dir() and path.parent.exists():
        return _folder_message(path.parent, error)
    previous = (
        f"The {what} of that name from before is intact"
        if path.is_file()
        else "Earlier checkpoints are intact"
    )
    return f"The {what} {path} cannot be written: {os_error_reason(error)}. {previous}."


def _require_readable(temporary: Path) -> None:
    """Raise if the file holds what cannot be read later, when it is too late."""
    try:
        peek_file(str(temporary))
    except DamagedCheckpointError:
        raise
    except CheckpointError as error:
        raise CheckpointError(
            f"The checkpoint cannot be saved, because no reader would accept it: {error.__cause__} "
            "is no plain value. Let state_dict() return numbers, text, lists, dictionaries, "
            "tensors and arrays only."
        ) from error


def _replace(
    path: Path,
    write: Callable[[BinaryIO], None],
    validate: Callable[[Path], None] = lambda _: None,
) -> None:
    """Write a temporary file, sync it, give it the name ``path``, and sync the folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_TEMPORARY_SUFFIX}")
    try:
        temporary.unlink(missing_ok=True)  # of a killed process with the same id
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        validate(temporary)
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C too
        with suppress(OSError):  # the first error is the one to report
            temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Sync a folder's entries; some network file systems cannot, and need not."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def _write_bytes(file: BinaryIO, data: bytes) -> None:
    file.write(data)


@contextmanager
def _checksums() -> Iterator[None]:
    """Let ``torch.save`` write checksums, whatever its global option says."""
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(True)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(before)
