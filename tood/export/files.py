"""The files of an exported model: one, or two for OpenVINO."""

import hashlib
from pathlib import Path


def file_parts(path: Path) -> list[Path]:
    """The files of a model, whether they exist or not: of NAME.xml also NAME.bin, the weights."""
    return [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]


def move_into_place(file: Path, output: Path) -> None:
    """Move a model that is complete to where it belongs.

    Args:
        file: the model, in a folder on the same disk as ``output``.
        output: the path to give it; existing files are replaced.
    """
    # The weights first: an .xml file without its .bin is of no use.
    for part, target in reversed(list(zip(file_parts(file), file_parts(output), strict=True))):
        part.replace(target)


def sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
