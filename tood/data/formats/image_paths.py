"""Finds the image files that an annotation file means by its names."""

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from urllib.parse import unquote

from ...errors import DataError
from ..dataset import ChangeLog
from .json_file import printable


def find_images(
    source: str,
    image_root: str,
    names: Sequence[str],
    changes: ChangeLog,
    keep_missing: bool = False,
) -> list[str]:
    """Return the paths of images, given their names in an annotation file.

    A name that is not a path below the folder is resolved where exactly one existing file results:
    backslashes, Windows drives and absolute paths of another computer, ``images/`` in front of what
    lies in the folder, escaped and upload paths of labeling tools.

    Args:
        source: the annotation file, for messages.
        image_root: the folder that the names are relative to.
        names: N names.
        changes: counts the names that were resolved.
        keep_missing: return the path that a missing image should have.

    Raises:
        DataError: the folder or images are missing.
    """
    if "://" in image_root:  # detectron2 reads such files; nothing can be looked up
        return [f"{image_root.rstrip('/')}/{name}" for name in names]
    if not image_root or not os.path.isdir(image_root):
        raise DataError(
            f"There is no image folder {printable(image_root) or '(not set)'} for {source}. Set "
            "DATASETS.TRAIN_IMAGES or DATASETS.TEST_IMAGES to the folder that the file names in it "
            "are relative to."
        )
    folders = _Folders()
    paths = [os.path.join(image_root, name) for name in names]
    unresolved = [index for index, path in enumerate(paths) if not folders.has_file(path)]
    missing: list[str] = []
    used = set(paths)
    for index in unresolved:
        name = names[index]
        found = {
            os.path.normpath(path)
            for candidate in _other_names(name)
            if folders.has_file(path := os.path.join(image_root, candidate))
        }
        path = found.pop() if len(found) == 1 else ""
        if not path:
            missing.append(name)
        elif path in used:
            raise DataError(
                f"{source}: the image {printable(name)} is not in the folder {image_root}, and "
                f"{printable(path)}, which it might mean, belongs to another image. Name the right "
                "folder, or correct the file name."
            )
        else:
            used.add(path)
            paths[index] = path
            changes.add(
                "file names resolved in the image folder",
                f"{printable(name)} is {printable(path)}",
            )
    if missing and not keep_missing:
        raise DataError(
            f"{len(missing)} images of {source} are not in the folder {image_root}, for example "
            f"{printable(missing[0], 200)}. Name the right folder, or remove them from the "
            "annotation file."
        )
    return paths


# Folders of a path that are tried as prefixes of the image folder; a name may have thousands.
_MAX_PARTS = 32


class _Folders:
    """Whether files exist, by listing each folder once instead of asking for every file."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}

    def has_file(self, path: str) -> bool:
        """Whether a path is a file."""
        folder, name = os.path.split(path)
        if not name:
            return False
        if folder not in self._names:
            try:
                with os.scandir(folder or ".") as entries:
                    self._names[folder] = {entry.name for entry in entries if entry.is_file()}
            except (OSError, ValueError):  # missing, not a folder, too long, not encodable
                self._names[folder] = set()
        # File systems may ignore case, which the list does not show.
        return name in self._names[folder] or os.path.isfile(path)


def _other_names(name: str) -> Iterator[str]:
    """Yield paths below the image folder that a name could mean."""
    spellings = {name, name.replace("\\", "/")}
    spellings |= {unquote(spelling) for spelling in spellings}
    # Label Studio: /data/local-files/?d=folder/image.jpg; URLs: https://host/image.jpg?size=2
    spellings |= {spelling.rpartition("?d=")[2] for spelling in spellings if "?d=" in spelling}
    spellings |= {spelling.partition("?")[0] for spelling in spellings if "?" in spelling}
    for form in ("NFC", "NFD"):  # macOS decomposes accents in file names
        spellings |= {unicodedata.normalize(form, spelling) for spelling in spellings}
    for spelling in sorted(spellings):
        path = re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*:", "", spelling)  # a drive, or https:
        parts = [part for part in path.split("/") if part not in ("", ".", "..")]
        for start in range(max(0, len(parts) - _MAX_PARTS), len(parts)):
            yield "/".join(parts[start:])
