"""Which image files are read, and their ids in results."""

import glob
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from PIL import features

from ..image_io import printable_path

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


class SourceError(ValueError):
    """Inputs that name no image, or an output folder that would overwrite them."""


class NoImageError(SourceError):
    """Inputs that name no image."""


def collect_images(
    inputs: Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str] | None = None,
    *,
    warn: bool = True,
) -> list[Path]:
    """Find the image files that the inputs name, each once, in their order.

    Only regular files are taken. Folders are searched with their subfolders for
    :data:`IMAGE_SUFFIXES`, and so are folders that a pattern matches; files that are named or
    matched need no known suffix. A warning names each input that gives no file.

    Args:
        inputs: files, folders or glob patterns (``**`` matches subfolders).
        output: the folder of the drawings. Folders and patterns skip what lies in it, because an
            earlier run drew it; a file that is named is taken.
        warn: whether to log the inputs that give no file.

    Raises:
        NoImageError: there is no image at all.
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
        if not files and warn:
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
        raise NoImageError(
            f"Found no images in {shown}. Name image files, folders or glob patterns, and videos "
            f"one by one; folders are searched for {' '.join(sorted(IMAGE_SUFFIXES))}.{skipped}"
        )
    return list(found.values())


def make_image_ids(images: Sequence[Path]) -> list[int]:
    """Choose ids for COCO-format results.

    The ids are the file names' numbers where every name is a number and all differ, as in COCO;
    otherwise 1, 2, ...
    """
    return numeric_ids([image.stem for image in images]) or list(range(1, len(images) + 1))


def numeric_ids(names: Iterable[str]) -> list[int] | None:
    """Return the numbers that names are, or None if one is not a number or two are equal."""
    ids: list[int] = []
    for name in names:
        if not name.isdecimal():
            return None
        ids.append(int(name))
    # Evaluators use int64.
    return ids if len(set(ids)) == len(ids) and max(ids, default=0) < 2**63 else None


def walk_images(
    folder: str | os.PathLike[str], on_error: Callable[[OSError], object] | None = None
) -> Iterator[str]:
    """The files in a folder and its subfolders with :data:`IMAGE_SUFFIXES`, in a fixed order.

    Links to folders are not followed; a warning counts them.

    Args:
        folder: to be searched.
        on_error: called for a folder that cannot be listed, which is skipped otherwise.
    """
    links = 0
    for parent, folders, files in os.walk(folder, onerror=on_error):
        folders.sort()
        links += sum(os.path.islink(os.path.join(parent, name)) for name in folders)
        for name in sorted(files):
            if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                yield os.path.join(parent, name)
    if links:
        logger.warning(
            "%s: %d links to folders are not followed. Name their targets as further sources.",
            printable_path(folder),
            links,
        )


def _search_folder(folder: Path) -> list[Path]:
    return sorted(path for path in map(Path, walk_images(folder)) if path.is_file())


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
        return "URLs of this kind are not read; download the file first"
    if os.path.isdir(name):
        return "no images in this folder"
    if os.path.lexists(name):
        return "not a regular file"
    return "no files match this pattern" if glob.has_magic(name) else "no such file or folder"
