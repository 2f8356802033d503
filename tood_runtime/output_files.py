"""Files and folders that a program writes, and what to say where it cannot."""

import json
from pathlib import Path
from typing import Any


class OutputError(ValueError):
    """A file or folder that cannot be written; the message names it."""


def make_output_folder(path: str, option: str = "--output") -> Path:
    """Create the folder that an option names.

    Raises:
        OutputError: it is a file, or cannot be created.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "it is a file" if folder.is_file() else error.strerror
        raise OutputError(
            f"Cannot write into {option} {path}: {reason}. Choose another folder."
        ) from error
    return folder


def validate_output_file(option: str, path: str | None) -> None:
    """Raise an OutputError, before any work is done, if a file cannot be written there."""
    if path is None:
        return
    if Path(path).is_dir():
        raise OutputError(f"{option} {path} is a folder. Name a file in it.")
    for parent in Path(path).parents:
        if parent.exists() and not parent.is_dir():
            raise OutputError(f"{option} {path} cannot be written: {parent} is a file.")


def write_json(path: str | Path, content: Any) -> None:
    """Write a JSON file, creating its folder.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(content, indent=1), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror}. Choose another file.") from error
