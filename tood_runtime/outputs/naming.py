"""Which files the outputs of images and videos go to."""

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from ..image_io import printable_path
from ..sources import IMAGE_SUFFIXES, SourceError

# Formats that cannot hold an RGB drawing.
_NOT_RGB = frozenset({".gif", ".pbm", ".pgm"})


def drawing_name(path: Path) -> str:
    """The file name of an image's drawing.

    It is the image's, with ".png" appended to suffixes that are unknown or whose format cannot hold
    RGB (GIF, PBM, PGM).
    """
    drawable = IMAGE_SUFFIXES - _NOT_RGB
    return path.name if path.suffix.lower() in drawable else f"{path.name}.png"


def output_paths(
    inputs: Sequence[Path],
    folder: str | os.PathLike[str],
    name_of: Callable[[Path], str] = drawing_name,
) -> list[Path]:
    """Choose a file for the output of each input, all different.

    Where several would have one name, the name of the input's folder stands before it, with a
    number where that is not enough.

    Args:
        inputs: paths of images and videos.
        folder: the folder of the outputs.
        name_of: the file name of an input's output.

    Raises:
        SourceError: an output would overwrite one of the inputs.
    """
    folder = Path(folder)
    names = [name_of(path) for path in inputs]
    counts = Counter(names)
    taken = {name for name, count in counts.items() if count == 1}
    # A link is replaced and not written through, so its own place counts, and not its target.
    originals = {_place(path) for path in inputs} | {path.resolve() for path in inputs}
    targets = []
    for path, name in zip(inputs, names, strict=True):
        if counts[name] > 1:
            name = _free_name(path.absolute().parent.name, name, taken)
            taken.add(name)
        target = folder / name
        if _place(target) in originals:
            raise SourceError(
                f"The output {printable_path(target)} would overwrite an input. Choose another "
                "output folder."
            )
        targets.append(target)
    return targets


def frame_path(path: Path, frame: int | None) -> Path:
    """The file of one frame of a video, given the video's; of an image, the path itself."""
    return path if frame is None else path.with_name(f"{path.stem}_{frame:06d}{path.suffix}")


def folder_name(class_name: str) -> str:
    """A folder for a class: its name, without what a file system does not take."""
    return re.sub(r'[\x00-\x1f/\\:*?"<>|]', "_", class_name).strip(". ") or "_"


def _place(path: Path) -> Path:
    """The absolute path of a directory entry: a link's own, not its target's."""
    return path.parent.resolve() / path.name


def _free_name(folder: str, name: str, taken: set[str]) -> str:
    stem, suffix = os.path.splitext(f"{folder}_{name}" if folder else name)
    number, free = 1, stem + suffix
    while free in taken:
        number += 1
        free = f"{stem}_{number}{suffix}"
    return free
