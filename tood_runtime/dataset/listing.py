"""Finds the images of a data set: folders, patterns, list files and COCO files.

Only names are looked at, so that a million of them are listed in seconds. A file that turns out to
be no image when it is read has a row with its error.
"""

import glob
import json
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from ..image_io import printable_path
from ..sources import IMAGE_SUFFIXES, SourceError, numeric_ids
from ..sources.files import walk_images

logger = logging.getLogger(__name__)

_LIST_SUFFIX, _COCO_SUFFIX = ".txt", ".json"


@dataclass(frozen=True)
class ListedImages:
    """The images of a data set, in order.

    Attributes:
        paths: as the sources name them.
        ids: of the images; all different.
    """

    paths: list[str]
    ids: list[int]


def list_images(sources: Sequence[str], image_folder: str | None = None) -> ListedImages:
    """List the images that sources name, each once.

    Folders are searched with their subfolders for :data:`IMAGE_SUFFIXES`; links to folders are
    not followed, and said. Other files are taken by any name, existing or not: what is
    missing has a row with its error.

    Args:
        sources: folders, glob patterns, image files, list files (.txt, one path per line, relative
            to the working folder or to the list's), or one COCO file (.json), whose image ids are
            kept. Otherwise ids are the numbers that all file names are, or 1, 2, ...
        image_folder: that the names in a COCO file are relative to.

    Raises:
        SourceError: a source does not exist, cannot be read, or names no image.
    """
    coco = [name for name in sources if _is_coco(name)]
    if coco and len(sources) > 1:
        raise SourceError(
            f"{printable_path(coco[0])} has image ids of its own, so it must be the only source. "
            "Write the others into a folder of their own."
        )
    if coco:
        if image_folder is None:
            raise SourceError(
                f"--images is missing: the folder of the images of {printable_path(coco[0])}."
            )
        return _read_coco(coco[0], image_folder)
    if image_folder is not None:
        raise SourceError("--images belongs to a COCO file (.json), but there is none.")
    paths: list[str] = []
    for name in sources:
        found = _list_source(name)
        if not found:
            raise SourceError(_why_nothing(name))
        paths += found
    if len(sources) > 1 or not os.path.isdir(sources[0]):  # a folder names nothing twice
        paths = _unique(paths)
    stems = (os.path.splitext(os.path.basename(path))[0] for path in paths)
    return ListedImages(paths, numeric_ids(stems) or list(range(1, len(paths) + 1)))


def is_list_file(name: str) -> bool:
    """Whether a source is a text file with one path per line, by its suffix."""
    return os.path.splitext(name)[1].lower() == _LIST_SUFFIX and not os.path.isdir(name)


def _is_coco(name: str) -> bool:
    return os.path.splitext(name)[1].lower() == _COCO_SUFFIX and not os.path.isdir(name)


def _list_source(name: str) -> list[str]:
    if "://" in name:
        raise SourceError(
            f"{printable_path(name)}: URLs and object stores are not listed. Mount or copy the "
            "images, or use demo/detect_on_ray.py, which reads object stores."
        )
    if is_list_file(name) and not glob.has_magic(name):
        return _read_list(name)
    if os.path.isdir(name):
        return list(walk_images(name, _raise_unreadable))
    if os.path.lexists(name):
        return [name]
    found: list[str] = []
    for match in sorted(glob.iglob(name, recursive=True)):
        if os.path.isdir(match):
            found += walk_images(match, _raise_unreadable)
        else:
            found.append(match)
    return found


def _raise_unreadable(error: OSError) -> NoReturn:
    """An unreadable folder would silently lose its images."""
    raise SourceError(
        f"{printable_path(error.filename)} cannot be listed: {error.strerror}. Change its "
        "permissions, or name other sources."
    ) from error


def _read_list(name: str) -> list[str]:
    try:
        with open(name, "rb") as file:
            data = file.read()
    except OSError as error:
        raise SourceError(
            f"The list {printable_path(name)} cannot be read: {error.strerror}."
        ) from error
    if b"\0" in data:
        raise SourceError(f"{printable_path(name)} is no text file with one path per line.")
    # Paths are bytes to the system, and need not be UTF-8.
    lines = map(str.strip, os.fsdecode(data.removeprefix(b"\xef\xbb\xbf")).split("\n"))
    paths = [line for line in lines if line and not line.startswith("#")]
    folder = _folder_of(paths, os.path.dirname(name))
    return [os.path.join(folder, path) for path in paths] if folder else paths


def _folder_of(paths: Iterable[str], folder: str) -> str:
    """The folder that relative paths of a list start from: its own, or "" for the working one.

    The first path that exists decides for all, because looking up each one may take hours.
    """
    for path in paths:
        if not os.path.isabs(path):
            if os.path.lexists(path):
                return ""
            if os.path.lexists(os.path.join(folder, path)):
                break
    return folder


def _read_coco(name: str, image_folder: str) -> ListedImages:
    shown = printable_path(name)
    if not os.path.isdir(image_folder):
        raise SourceError(f"--images {printable_path(image_folder)} is no folder.")
    try:
        with open(name, encoding="utf-8-sig") as file:
            content = json.load(file, object_hook=_drop_annotation)
    except OSError as error:
        raise SourceError(f"{shown} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise SourceError(f"{shown} is not JSON ({error}).") from error
    images = content.get("images") if isinstance(content, dict) else content
    if not isinstance(images, list) or not images:
        raise SourceError(
            f'{shown} has no list of images. It needs {{"images": [{{"id": 1, "file_name": '
            '"a.jpg"}, ...]}, as COCO files have it, or that list alone.'
        )
    paths, ids = [], []
    for position, image in enumerate(images):
        file_name, image_id = (
            (image.get("file_name"), image.get("id")) if isinstance(image, dict) else (None, None)
        )
        if not isinstance(file_name, str) or type(image_id) is not int:
            raise SourceError(
                f"{shown}: image {position} of the list needs a file_name, and an id that is a "
                "whole number."
            )
        if not -(2**63) <= image_id < 2**63:
            raise SourceError(f"{shown}: the image id {image_id} does not fit into 64 bits.")
        paths.append(os.path.join(image_folder, file_name))
        ids.append(image_id)
    if len(set(ids)) < len(ids):
        raise SourceError(f"{shown} has an image id twice. Results could not be told apart.")
    return ListedImages(paths, ids)


def _drop_annotation(entry: dict[str, Any]) -> dict[str, Any] | None:
    """Nobody asks for annotations here, and they take most of the memory."""
    return None if "image_id" in entry else entry


def _unique(paths: Iterable[str]) -> list[str]:
    """Leave repeated files out."""
    found: dict[str, str] = {}
    count = 0
    for path in paths:
        found.setdefault(os.path.abspath(path), path)
        count += 1
    if len(found) < count:
        logger.warning(
            "%d of %d paths name an image again and are left out.", count - len(found), count
        )
    return list(found.values())


def _why_nothing(name: str) -> str:
    shown = printable_path(name)
    if not name:
        return 'A source is "". Name a folder, a glob pattern, a list file or a COCO file.'
    if os.path.isdir(name):
        return (
            f"There are no images in the folder {shown}. It was searched for "
            f"{' '.join(sorted(IMAGE_SUFFIXES))}."
        )
    if is_list_file(name) and os.path.exists(name):
        return f"The list {shown} names no image. It needs one path per line."
    kind = "No files match the pattern" if glob.has_magic(name) else "There is no file or folder"
    return f"{kind} {shown}."
