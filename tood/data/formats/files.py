"""What readers of formats that consist of many files share: text, image files, image sizes."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from tood_runtime.image_header import ImageHeader, read_header
from tood_runtime.image_io import ImageReadError
from tood_runtime.sources.files import IMAGE_SUFFIXES, numeric_ids

from ...errors import DataError
from ..dataset import ChangeLog
from .json_file import printable

Item = TypeVar("Item")
Result = TypeVar("Result")

# Of an image that cannot be read; `build_dataset` leaves images without a size out.
NO_HEADER = ImageHeader((0, 0), (0, 0), "", "", 1, False, False)

# Small files are read in threads: the time goes into waiting for the disk or the network.
NUM_THREADS = 8

# What a split is called in files and folders, by its name in DATASETS.{TRAIN,TEST}_SPLIT.
_SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}

# A value of coordinates in fractions of the image that cannot be such a fraction. Boxes may end
# beyond their image, so values a little above 1 occur.
MAX_FRACTION = 2.0


def split_names(split: str) -> tuple[str, ...]:
    """Return what a split may be called, its own name first."""
    same = next((names for names in _SPLIT_NAMES.values() if split in names), ())
    return tuple(dict.fromkeys((split, *same)))


def all_splits() -> tuple[str, ...]:
    """Return all names that the known splits may have."""
    return tuple(name for names in _SPLIT_NAMES.values() for name in names)


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn errors of the file system, such as a missing permission, into a `DataError`."""
    try:
        yield
    except OSError as error:
        where = printable(str(error.filename or path), 300)
        raise DataError(f"{where} cannot be read: {error.strerror or error}.") from error


def read_bytes(path: Path) -> bytes:
    """Read a regular file; a named pipe would be waited for.

    Raises:
        DataError: it cannot be read.
    """
    with reading(str(path)):
        if not path.is_file():
            raise DataError(f"{path} cannot be read: it is not a regular file.")
        return path.read_bytes()


def read_text(path: Path) -> str:
    """Read a text file: UTF-8, or UTF-16 with a byte order mark, which is removed.

    Raises:
        DataError: it cannot be read or has another encoding.
    """
    data = read_bytes(path)
    try:
        is_utf16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
        text = data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not a text file in UTF-8. Save it in UTF-8.") from None
    if "\0" in text:  # UTF-16 or UTF-32 without a mark; no path may have such a character
        raise DataError(f"{path} is not a text file: it has zero bytes. Save it in UTF-8.")
    return text


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text file without surrounding blanks; empty ones are left out."""
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def read_class_names(path: Path) -> list[str]:
    """Read class names, one per line, by class index.

    Raises:
        DataError: there are none, or a name occurs twice.
    """
    names = read_lines(path)
    if not names:
        raise DataError(f"{path} is empty. Write one class name per line.")
    refuse_repeated_names(names, path)
    return names


def refuse_repeated_names(names: Sequence[str], path: Path) -> None:
    """Refuse a list of classes that has one twice; unlike in COCO and YAML, nothing else tells.

    Raises:
        DataError: a name occurs twice.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(
            f"{path} has the class {min(twice)[:100]!r} twice. Give each class its own name."
        )


def list_files(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and its subfolders, sorted within each folder.

    Files and folders whose name starts with a dot are left out: macOS puts files such as
    "._image.jpg", which are not images, into archives. Links are followed, but none to a folder
    above: what is next to the dataset, or the whole disk, does not belong to it.
    """
    seen: set[str] = set()
    top = os.path.realpath(folder)
    for root, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen or _is_above(real, top):
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(root, name)


def _is_above(folder: str, other: str) -> bool:
    """Whether a folder contains another; both without links."""
    return folder != other and os.path.commonpath([folder, other]) == folder


def list_images(folder: Path, dataset: Path | None = None) -> list[Path]:
    """Return the image files in a folder and its subfolders, by their suffix in any case.

    Args:
        folder: of the images.
        dataset: where the dataset lies, if its own files or links decide on the folder.

    Raises:
        DataError: the dataset lies in a subfolder of it, as it does if the folder is "/".
    """
    if dataset is not None:
        real = os.path.realpath(dataset)
        if _is_above(os.path.realpath(folder), real):
            raise DataError(
                f"{folder} has more than the images: {real}, the dataset itself, lies in it. "
                "Name the folder of the images."
            )
    return [path for path in list_files(folder) if path.suffix.lower() in IMAGE_SUFFIXES]


def is_image(path: Path) -> bool:
    """Whether a path has the suffix of an image and exists."""
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def map_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Apply a function that reads a file to all items, in threads, and keep their order."""
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        return list(pool.map(function, items))


def read_headers(
    paths: Sequence[str | Path], source: str, keep_unreadable: bool = False
) -> list[ImageHeader]:
    """Read the headers of images.

    Args:
        paths: of the images.
        source: the dataset, for messages.
        keep_unreadable: return `NO_HEADER` for images that are missing or cannot be read.

    Raises:
        DataError: images are missing or cannot be read. Their boxes need the size.
    """

    def read(path: str | Path) -> ImageHeader | str:
        try:
            return read_header(path)
        except ImageReadError as error:
            return str(error)

    found = map_threads(read, paths)
    headers = [header if isinstance(header, ImageHeader) else NO_HEADER for header in found]
    problems = [problem for problem in found if isinstance(problem, str)]
    if problems and not keep_unreadable:
        raise DataError(
            f"{source}: {len(problems)} images cannot be read, but their sizes are needed, "
            f"because the annotations do not have them. {problems[0]} Replace or remove them."
        )
    return headers


def image_sizes(
    headers: Iterable[ImageHeader], apply_exif: bool
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return heights and widths (N,), of the turned images if ``apply_exif``, else as stored."""
    sizes = [header.size if apply_exif else header.stored_size for header in headers]
    array = np.array(sizes, np.int32).reshape(-1, 2)
    return array[:, 1].copy(), array[:, 0].copy()


def image_ids(paths: Sequence[str], root: Path) -> list[int | str]:
    """Return ids of images.

    They are the numbers in the file names where all names are numbers and differ, as in COCO; else
    the paths below the folder of the dataset, or below what all images have in common.
    """
    stems = [Path(path).stem for path in paths]
    # An id is used as a number only if it can be written back: "007" and "7" are different names.
    numbers = numeric_ids(stems) if all(stem.isascii() for stem in stems) else None
    if numbers is not None:
        return list(numbers)
    if all(Path(path).is_relative_to(root) for path in paths):
        return [Path(path).relative_to(root).as_posix() for path in paths]
    absolute = [Path(os.path.abspath(path)) for path in paths]
    common = os.path.commonpath([path.parent for path in absolute])
    return [path.relative_to(common).as_posix() for path in absolute]


def existing_folder(candidates: Iterable[Path]) -> Path | None:
    """Return the first of the folders that exists."""
    return next((folder for folder in candidates if folder.is_dir()), None)


def sort_corners(
    corners: npt.NDArray[np.float64],
    describe: Callable[[int], str],
    changes: ChangeLog,
    pixel: float = 0,
) -> npt.NDArray[np.float64]:
    """Return corners (M, 4) [x1, y1, x2, y2] in ascending order; count those that were not.

    Args:
        corners: as written.
        describe: names a box in the file.
        changes: where they are counted.
        pixel: how much x1 may exceed x2 in a correct box: 1 where both are numbers of pixels, of
            which a box less than a pixel wide has neither whole.
    """
    low, high = corners[:, :2], corners[:, 2:]
    swapped = low > high + pixel
    rows = np.flatnonzero(swapped.any(axis=1))
    if len(rows):
        changes.add("boxes with exchanged corners sorted", describe(int(rows[0])), len(rows))
    return np.concatenate([np.where(swapped, high, low), np.where(swapped, low, high)], axis=1)
