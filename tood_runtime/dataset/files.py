"""Files that are written whole or not at all: a kill, a crash or a full disk leaves no part of one.

A file is written under a temporary name in its folder, synced to the disk, and renamed, which file
systems do in one step.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..output_files import OutputError

# Temporary files are named .NAME.RANDOM + this. Readers of Parquet folders skip hidden files.
_TEMPORARY = ".tood-tmp"


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a file that gets its name when the block ends without an error.

    Raises:
        OutputError: it cannot be written; what was there before is intact.
    """
    temporary = _temporary_name(path)
    try:
        try:
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"Cannot write {path}: {error.strerror or error}. Fix that, and run the same command "
            "again: it goes on where this one stopped."
        ) from error


def write_file(path: Path, data: bytes) -> None:
    """Write a file.

    Raises:
        OutputError: see :func:`replacing`.
    """
    with replacing(path) as file:
        file.write(data)


def create_file(path: Path, data: bytes) -> bool:
    """Write a file that does not exist yet; return False if another process was first.

    Raises:
        OutputError: it cannot be written.
    """
    whole = _temporary_name(path)
    write_file(whole, data)
    try:
        os.link(whole, path)
        return True
    except FileExistsError:
        return False
    except OSError:  # a file system without links; the last of several writers wins there
        write_file(path, data)
        return True
    finally:
        whole.unlink(missing_ok=True)


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}{_TEMPORARY}")


def remove_temporary_files(folder: Path) -> None:
    """Remove what killed processes have left."""
    for path in folder.glob(f".*{_TEMPORARY}"):
        with suppress(OSError):
            path.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a new name survive a power cut, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
