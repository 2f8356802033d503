"""A case: the files of an input, and how it is read; in memory, on disk, and in the corpus."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

# Names in the corpus that stand for what is no regular file.
_SPECIAL = "special"


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True)
class Pipe:
    """A named pipe, which whoever opens it waits for."""


Entry = bytes | Link | Pipe


@dataclass(frozen=True)
class Case:
    """An input.

    Attributes:
        kind: which readers read it.
        target: the path that they are given, relative to the folder; "" for the folder.
        files: by relative path. Names may have surrogate escapes for bytes that are not UTF-8.
        options: of the readers, in plain JSON.
    """

    kind: str
    target: str
    files: Mapping[str, Entry]
    options: Mapping[str, Any] = field(default_factory=dict)

    def with_files(self, files: Mapping[str, Entry]) -> "Case":
        """A copy with other files."""
        return replace(self, files=dict(files))


def write_case(case: Case, folder: Path) -> None:
    """Write the files of a case into a folder, which is emptied first.

    Names that the file system refuses are left out.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, entry in case.files.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(entry, Link):
                path.symlink_to(entry.target)
            elif isinstance(entry, Pipe):
                os.mkfifo(path)
            else:
                path.write_bytes(entry)
        except (OSError, ValueError):  # such as a file where a folder has to be
            continue


def store_case(case: Case, path: Path, about: Mapping[str, Any]) -> None:
    """Store a case for the corpus: its files in the folder ``path``, and ``path``.json next to it.

    Links, pipes and files with names that cannot be printed are in the JSON file only.

    Args:
        case: what to store.
        path: without suffix.
        about: what is known about the case, such as the mutations and the outcome.
    """
    special: dict[str, dict[str, str]] = {}
    plain: dict[str, Entry] = {}
    for name, entry in case.files.items():
        if isinstance(entry, Link):
            special[name] = {"link": entry.target}
        elif isinstance(entry, Pipe):
            special[name] = {"pipe": ""}
        elif not name.isascii() or not name.isprintable() or len(name) > 200:
            special[name] = {"hex": entry.hex()}
        else:
            plain[name] = entry
    write_case(case.with_files(plain), path)
    content = {
        "kind": case.kind,
        "target": case.target,
        "options": dict(case.options),
        **({_SPECIAL: special} if special else {}),
        **about,
    }
    text = json.dumps(content, indent=1, ensure_ascii=True)
    path.with_name(f"{path.name}.json").write_text(f"{text}\n")


def load_case(json_file: Path) -> Case:
    """Load what `store_case` wrote, given its JSON file."""
    about = json.loads(json_file.read_text())
    folder = json_file.with_suffix("")
    files: dict[str, Entry] = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    for name, entry in about.get(_SPECIAL, {}).items():
        if "link" in entry:
            files[name] = Link(entry["link"])
        elif "pipe" in entry:
            files[name] = Pipe()
        else:
            files[name] = bytes.fromhex(entry["hex"])
    return Case(about["kind"], about["target"], files, about["options"])
