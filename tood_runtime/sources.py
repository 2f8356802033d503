"""Which images a command reads, what they are called in results, and where drawings go."""

import glob
import logging
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, features

from .image_io import printable_path

logger = logging.getLogger(__name__)

# Common suffixes, and the optional part of Pillow that decodes them.
_CODECS = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), "jpg"),
    **dict.fromkeys((".png", ".apng"), "zlib"),
    **dict.fromkeys((".jp2", ".j2k", ".jpf", ".jpx"), "jpg_2000"),
    **dict.fromkeys((".bmp", ".dib", ".gif", ".tga", ".tif", ".tiff"), None),
    **dict.fromkeys((".pbm", ".pgm", ".pnm", ".ppm"), None),
    ".webp": "webp",
    ".avif": "avif",
}


def _is_available(codec: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # older versions of Pillow do not know every codec
        return bool(features.check(codec))


#: Lower-case suffixes of the files that are taken from folders: what this Pillow decodes.
IMAGE_SUFFIXES = frozenset(
    suffix for suffix, codec in _CODECS.items() if codec is None or _is_available(codec)
)

# Formats that cannot hold an RGB drawing.
_NOT_RGB = frozenset({".gif", ".pbm", ".pgm"})


class SourceError(ValueError):
    """Inputs that name no image, or an output folder that would overwrite them."""


def images_of(source: Any) -> Iterable[Any]:
    """The images of a source; see :meth:`ImageDetector.predict`.

    Raises:
        SourceError: there is no image in a folder or pattern.
        TypeError: the source is none.
    """
    if isinstance(source, (str, os.PathLike)):
        if not os.fspath(source):
            raise SourceError('The source is "". Name an image file, a folder or a glob pattern.')
        return collect_images([source])
    # An array or tensor of more dimensions is a batch of them.
    dimensions = getattr(source, "ndim", None)
    if isinstance(source, Image.Image) or dimensions in (0, 2, 3):
        return [source]
    no_image = isinstance(source, (bytes, bytearray, Mapping)) or hasattr(source, "read")
    if no_image or not isinstance(source, Iterable):
        hint = " Open it first: PIL.Image.open(file)." if hasattr(source, "read") else ""
        hint = " Pass its values." if isinstance(source, Mapping) else hint
        raise TypeError(
            f"Expected a path, an image or an iterable of images, got {type(source).__name__}."
            f"{hint}"
        )
    return source


def collect_images(
    inputs: Iterable[str | os.PathLike[str]], output: str | os.PathLike[str] | None = None
) -> list[Path]:
    """Find the image files that the inputs name, each once, in their order.

    Only regular files are taken. Folders are searched with their subfolders for
    :data:`IMAGE_SUFFIXES`, and so are folders that a pattern matches; files that are named or
    matched need no known suffix. A warning names each input that gives no file.

    Args:
        inputs: files, folders or glob patterns (``**`` matches subfolders).
        output: the folder of the drawings. Folders and patterns skip what lies in it, because an
            earlier run drew it; a file that is named is taken.

    Raises:
        SourceError: there is no image at all.
    """
    names = [os.fspath(name) for name in inputs]
    drawn = None if output is None else Path(output).resolve()
    found: dict[str, Path] = {}
    for name in names:
        path = Path(name)
        if path.is_file():
            files = [path]
        else:
            files = _search_folder(path) if path.is_dir() else _match_pattern(name)
            files = [f for f in files if drawn is None or drawn not in f.resolve().parents]
        if not files:
            logger.warning("%s: %s.", printable_path(name), _why_nothing(name))
        for file in files:
            found.setdefault(os.path.abspath(file), file)
    if not found:
        shown = ", ".join(map(printable_path, names)) or "(no input)"
        skipped = (
            ""
            if output is None
            else f" Files in the output folder {printable_path(output)} are skipped."
        )
        raise SourceError(
            f"Found no images in {shown}. Name image files, folders or glob patterns; folders are "
            f"searched for {' '.join(sorted(IMAGE_SUFFIXES))}.{skipped}"
        )
    return list(found.values())


def output_paths(images: Sequence[Path], folder: str | os.PathLike[str]) -> list[Path]:
    """Choose a file for the drawing of each image, all different.

    A drawing has the name of its image where no other image has it; else the name of the image's
    folder stands before it, with a number where that is not enough. ".png" is appended to suffixes
    that are unknown or whose format cannot hold RGB (GIF, PBM, PGM).

    Args:
        images: paths of the images.
        folder: the folder of the drawings.

    Raises:
        SourceError: a drawing would overwrite one of the images.
    """
    folder = Path(folder)
    drawable = IMAGE_SUFFIXES - _NOT_RGB
    names = [p.name if p.suffix.lower() in drawable else f"{p.name}.png" for p in images]
    counts = Counter(names)
    taken = {name for name, count in counts.items() if count == 1}
    # A link is replaced and not written through, so its own place counts, and not its target.
    originals = {_place(path) for path in images} | {path.resolve() for path in images}
    targets = []
    for image, name in zip(images, names, strict=True):
        if counts[name] > 1:
            name = _free_name(image.absolute().parent.name, name, taken)
            taken.add(name)
        target = folder / name
        if _place(target) in originals:
            raise SourceError(
                f"The drawing {printable_path(target)} would overwrite an input image. Choose "
                "another output folder."
            )
        targets.append(target)
    return targets


def make_image_ids(images: Sequence[Path]) -> list[int]:
    """Choose ids for COCO-format results.

    The ids are the file names' numbers where every name is a number and all differ, as in COCO;
    otherwise 1, 2, ...
    """
    return numeric_ids([image.stem for image in images]) or list(range(1, len(images) + 1))


def numeric_ids(names: Sequence[str]) -> list[int] | None:
    """Return the numbers that names are, or None if one is not a number or two are equal."""
    if all(name.isdecimal() for name in names):
        ids = [int(name) for name in names]
        if len(set(ids)) == len(ids) and max(ids, default=0) < 2**63:  # evaluators use int64
            return ids
    return None


def _search_folder(folder: Path) -> list[Path]:
    files = folder.rglob("*")
    return sorted(f for f in files if f.suffix.lower() in IMAGE_SUFFIXES and f.is_file())


def _match_pattern(pattern: str) -> list[Path]:
    files: list[Path] = []
    for path in map(Path, sorted(glob.glob(pattern, recursive=True))):
        if path.is_file():
            files.append(path)
        elif path.is_dir():
            files += _search_folder(path)
    return files


def _why_nothing(name: str) -> str:
    if "://" in name:
        return "URLs are not read; download the image first"
    if os.path.isdir(name):
        return "no images in this folder"
    if os.path.lexists(name):
        return "not a regular file"
    return "no files match this pattern" if glob.has_magic(name) else "no such file or folder"


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
