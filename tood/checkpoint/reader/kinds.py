"""Tell by its first bytes what a file is; names are often wrong."""

import os
import re
import struct
import zipfile
from collections.abc import Callable
from enum import Enum

from ...errors import CheckpointError


class FileKind(Enum):
    """The kinds of files that hold weights."""

    ZIP = "zip"
    PICKLE = "pickle"
    SAFETENSORS = "safetensors"


class DamagedCheckpointError(CheckpointError):
    """A file cannot be read as a checkpoint."""


_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"(\xb5/\xfd": "zstd",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
}
_OTHER = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, as Keras writes it",
    b"\x93NUMPY": "a single NumPy array",
    b"GGUF": "a GGUF file",
    b"%PDF": "a PDF",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x7fELF": "a program",
}


def file_kind(path: str) -> FileKind:
    """Find out which reader a file needs.

    Args:
        path: a local file.

    Raises:
        DamagedCheckpointError: the file holds no weights; the message says what it is.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # a named pipe would be waited for
        raise DamagedCheckpointError(
            f"{path} cannot be read as a checkpoint: it is no regular file."
        )
    try:
        with open(path, "rb") as file:
            head = file.read(512)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise DamagedCheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    if head.startswith(b"PK\x03\x04"):
        _require_torch_zip(path)
        return FileKind.ZIP
    if _is_safetensors(head, size):
        return FileKind.SAFETENSORS
    problem = _problem(head)
    if problem is None:
        # The old protocols have no magic number; Python 2 wrote them.
        if re.match(rb"\x80[\x01-\x05]|[(}\]]|c\w+\n", head):
            return FileKind.PICKLE
        problem = (
            "its first bytes are those of no checkpoint. It is truncated, or torch.save did not "
            "write it: a failed download can be a web page, for example. Download or copy it again"
        )
    raise DamagedCheckpointError(f"{path} cannot be read as a checkpoint: {problem}.")


def _is_safetensors(head: bytes, size: int) -> bool:
    """8 bytes with the length of a JSON header, then the header."""
    return len(head) > 8 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] <= size - 8


def _problem(head: bytes) -> str | None:
    """What a file is that holds no weights, and what to do; None if it may hold some."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    checks: list[tuple[Callable[[], bool], str]] = [
        (
            lambda: not head,
            "it is empty. Its download or copy was truncated: download or copy it again",
        ),
        (
            lambda: text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")),
            "it is a web page (a failed download can be a web page, for example a login). Download "
            "the file itself",
        ),
        (
            lambda: head.startswith(b"version https://git-lfs"),
            'it is a Git LFS pointer, not the file. Run "git lfs pull" in its repository',
        ),
        (
            lambda: head[257:262] == b"ustar",
            "it is a tar archive. Unpack it, and name the checkpoint in it",
        ),
        (lambda: not head.strip(b"\0"), "it holds only zeros. Download or copy it again"),
    ]
    for applies, problem in checks:
        if applies():
            return problem
    for magic, name in _COMPRESSED.items():
        if head.startswith(magic):
            return f"it is compressed ({name}). Unpack it, and name the checkpoint in it"
    for magic, name in _OTHER.items():
        if head.startswith(magic):
            return f"it is {name}. Name a file of torch.save"
    return None


def _require_torch_zip(path: str) -> None:
    """Tell other zip files from those of ``torch.save``; damage is found later."""
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return
    problem = None
    if any(name.endswith(("/constants.pkl", "/code/")) for name in names):
        problem = (
            "it is a TorchScript model. Save its weights: torch.save(model.state_dict(), FILE)"
        )
    elif names and all(name.endswith(".npy") for name in names):
        problem = "it is a NumPy archive. Save its arrays with torch.save"
    elif not any(name.endswith("data.pkl") for name in names) and not any(
        "/data/" in name for name in names
    ):
        example = next((name for name in names if name.endswith((".pth", ".pt", ".pkl"))), None)
        unpack = f"Unpack it, and name {example}" if example else "Name a file of torch.save"
        problem = f"it is a zip archive without the records of torch.save. {unpack}"
    if problem:
        raise DamagedCheckpointError(f"{path} cannot be read as a checkpoint: {problem}.")
