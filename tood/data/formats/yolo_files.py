"""Finds the parts of a YOLO dataset: the classes, the images of a split, their label files."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..dataset import ChangeLog
from .files import (
    all_splits,
    is_image,
    list_images,
    read_class_names,
    read_lines,
    read_text,
    split_names,
)
from .json_file import printable
from .yaml_text import load_yaml_as_text
from .yolo_labels import CLASS_FILES

_DARKNET_FILE = "obj.data"
_ROBOFLOW_FILE = "_darknet.labels"  # in the folder of each split
_YAML_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class YoloDescription:
    """What describes a YOLO dataset.

    Attributes:
        file: the YAML file, or the file with the class names.
        roots: folders that paths may be relative to, best first.
        entries: paths of images by split, as written.
        class_names: K names.
        class_numbers: their numbers in the label files.
        num_keypoint_values: numbers per object after its box.
        has_splits: False if the whole folder is one dataset.
    """

    file: Path
    roots: tuple[Path, ...]
    entries: dict[str, list[str]]
    class_names: list[str]
    class_numbers: list[int]
    num_keypoint_values: int = 0
    has_splits: bool = True

    @property
    def folder(self) -> Path:
        """The folder of the dataset."""
        return self.roots[0] if self.roots[0].is_dir() else self.file.parent


def find_description_file(path: Path) -> Path | None:
    """Return the file that describes a dataset, which may be the path itself.

    Raises:
        DataError: a folder has several YAML files that describe datasets.
    """
    if path.is_file():
        return path if path.suffix.lower() in (*_YAML_SUFFIXES, ".data") else None
    for name in ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml"):
        if (path / name).is_file():
            return path / name
    files = [f for f in sorted(path.iterdir()) if f.suffix.lower() in _YAML_SUFFIXES]
    files = [f for f in files if f.is_file() and _describes_dataset(f)]
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise DataError(f"{path} has several YOLO datasets: {names}. Name one of these files.")
    if files:
        return files[0]
    parts = (f"{name}/{_ROBOFLOW_FILE}" for name in all_splits())
    for name in (_DARKNET_FILE, *CLASS_FILES, *parts):
        if (path / name).is_file():
            return path / name
    return None


def read_description(file: Path) -> YoloDescription:
    """Read a YAML file, darknet's ``.data`` file, or a list of classes.

    Raises:
        DataError: it is not understood.
    """
    if file.suffix.lower() in _YAML_SUFFIXES:
        content = load_yaml_as_text(file)
    elif file.suffix == ".data":
        pairs = (line.partition("=") for line in read_lines(file))
        content = {key.strip(): value.strip() for key, _, value in pairs}
        content["nc"] = content.get("classes", "")
    else:
        return _describe_folder(file)
    folder = file.parent
    root = str(content.get("path") or "").replace("\\", "/")
    roots = (folder / os.path.expanduser(root), folder, Path(root), Path())
    names, numbers = _class_names(content, file, roots)
    entries = {}
    for split in all_splits():
        entry = content.get(split) or []
        entry = [entry] if isinstance(entry, str) else entry
        if not isinstance(entry, list) or not all(isinstance(item, str) for item in entry):
            raise DataError(f"{file}: {split!r} must be a folder, a .txt file or a list of these.")
        if entry:
            entries[split] = entry
    has_splits = bool(entries)
    if not has_splits:  # supervision writes the classes only
        entries, has_splits = _entries_of_folder(folder)
    values = _keypoint_values(content, file)
    return YoloDescription(file, roots, entries, names, numbers, values, has_splits)


def images_of_split(
    description: YoloDescription, split: str, changes: ChangeLog, keep_missing: bool = False
) -> tuple[list[Path], bool]:
    """Return the images of a split, and whether they were found in folders, not in lists.

    With ``keep_missing``, images that lists name but that do not exist are returned too.

    Raises:
        DataError: the split or its images do not exist.
    """
    images: list[Path] = []
    in_folders = True
    located = _locate_split(description, split, changes)
    for other in ("train", "val", "test") if description.has_splits else ():
        if split not in split_names(other) and _find_entry(description, other) is not None:
            shared = set(located) & set(_locate_split(description, other, ChangeLog(), False))
            for path in sorted(shared):
                changes.warnings.append(
                    f"{description.file}: the splits {split} and {other} both have {path}, so a "
                    "result on one says nothing about other images."
                )
    for path in located:
        if path.is_dir():
            images += list_images(path, description.file.parent)
        elif path.suffix.lower() == ".txt":
            in_folders = False
            images += _listed_images(path, description, changes, keep_missing)
        else:
            raise DataError(
                f"{description.file}: {path} is neither a folder nor a .txt list of images."
            )
    unique = list(dict.fromkeys(images))
    if unique:
        changes.add("images that are named twice used once", unique[0], len(images) - len(unique))
    else:
        shown = ", ".join(map(str, located))
        raise DataError(f"{description.file}: there are no images in {shown}. Check the path.")
    return unique, in_folders


def _describes_dataset(file: Path) -> bool:
    try:
        text = read_text(file)
    except DataError:
        return False
    return all(re.search(rf"^({keys})\s*:", text, re.M) for keys in ("names|nc", "train|val|test"))


def _class_names(
    content: dict[str, Any], file: Path, roots: tuple[Path, ...]
) -> tuple[list[str], list[int]]:
    names, count = content.get("names"), content.get("nc")
    if isinstance(names, str) and names:  # a file
        listed = _locate(names, roots, ChangeLog())
        if listed is None:
            raise DataError(
                f"{file}: 'names' is '{printable(names)}'. Write a list, or an existing file."
            )
        names = read_class_names(listed)
    if not names and isinstance(count, str) and count.isdecimal() and len(count) < 6:
        names = [f"class {index}" for index in range(int(count))]
    numbers = list(range(len(names))) if isinstance(names, list) else []
    if isinstance(names, dict):
        if not all(isinstance(key, str) and key.strip().isdecimal() for key in names):
            raise DataError(f"{file}: the keys of 'names' must be class numbers.")
        by_number = {int(key): name for key, name in names.items()}
        numbers = sorted(by_number)
        names = [by_number[number] for number in numbers]
    if not isinstance(names, list) or not names:
        raise DataError(f"{file} has no class names. Add names: [first, second].")
    if not all(isinstance(name, str) for name in names):
        raise DataError(f"{file}: 'names' must be a list of texts, one per class.")
    if count and str(count).strip() != str(len(names)):
        raise DataError(
            f"{file}: 'nc' is {printable(count)}, but 'names' has {len(names)}. Correct one."
        )
    return names, numbers


def _keypoint_values(content: dict[str, Any], file: Path) -> int:
    shape = content.get("kpt_shape")
    if not shape:
        return 0
    if (
        not isinstance(shape, list)
        or len(shape) != 2
        or not all(str(x).isdecimal() and len(x) < 6 for x in shape)
    ):
        raise DataError(f"{file}: 'kpt_shape' must be two numbers, such as [17, 3].")
    return int(shape[0]) * int(shape[1])


def _describe_folder(file: Path) -> YoloDescription:
    """Describe a folder without a YAML file."""
    folder = file.parent.parent if file.name == _ROBOFLOW_FILE else file.parent
    entries, has_splits = _entries_of_folder(folder)
    names = read_class_names(file)
    numbers = list(range(len(names)))
    return YoloDescription(file, (folder,), entries, names, numbers, has_splits=has_splits)


def _entries_of_folder(folder: Path) -> tuple[dict[str, list[str]], bool]:
    """Return the entries of a folder by the folders and lists in it, and whether it has splits."""
    entries = {}
    for name in all_splits():
        for entry in (f"images/{name}", f"{name}/images", name, f"{name}.txt"):
            if (folder / entry).exists():
                entries[name] = [entry]
                break
    whole = {"all": ["images" if (folder / "images").is_dir() else "."]}
    return entries or whole, bool(entries)


def _find_entry(description: YoloDescription, split: str) -> list[str] | None:
    names = split_names(split) if description.has_splits else ("all",)
    return next((description.entries[x] for x in names if x in description.entries), None)


def _locate_split(
    description: YoloDescription, split: str, changes: ChangeLog, must_exist: bool = True
) -> list[Path]:
    entry = _find_entry(description, split)
    if entry is None:
        available = ", ".join(description.entries) or "none"
        raise DataError(
            f"{description.file} has no split {split!r}. Available: {available}. Choose with "
            "DATASETS.TRAIN_SPLIT and DATASETS.TEST_SPLIT."
        )
    found = []
    for value in entry:
        path = _locate(value, description.roots, changes)
        if path is not None:
            found.append(path)
        elif must_exist:
            raise DataError(
                f"{description.file}: the {split} images '{printable(value)}' do not exist, "
                f"neither from there nor below {description.roots[0]}. Correct 'path' "
                f"or {split!r} in the file."
            )
    return found


def _locate(value: str, roots: tuple[Path, ...], changes: ChangeLog) -> Path | None:
    """Find a path that is relative to one of the roots, or was written on another machine."""
    value = value.strip().replace("\\", "/")
    if "://" in value:
        raise DataError(
            f"{printable(value)} is an address. Download the dataset and name its folder."
        )
    path = Path(os.path.expanduser(value))  # unlike pathlib, accepts ~nobody
    for root in roots:
        if (root / path).exists():
            return Path(os.path.normpath(root / path))
    parts = [part for part in path.parts if part not in ("..", ".", path.anchor)]
    for start in range(len(parts)):
        tail = Path(*parts[start:])
        # Of a folder, one name alone could be a folder with something else.
        if start and start == len(parts) - 1 and not tail.suffix:
            break
        for root in roots[:2]:
            if (root / tail).exists():
                if start or path.is_absolute():
                    changes.add("paths of another place found in the dataset's folder", value)
                return Path(os.path.normpath(root / tail))
    return None


def _listed_images(
    file: Path, description: YoloDescription, changes: ChangeLog, keep_missing: bool
) -> list[Path]:
    roots = (file.parent, *description.roots)
    found: list[Path] = []
    missing: list[Path] = []
    for line in read_lines(file):
        path = _locate(line, roots, changes)
        if path is None or not is_image(path):
            path = path or roots[0] / line
            missing.append(path)
        found.append(path)
    if missing and not keep_missing:
        raise DataError(
            f"{file}: {len(missing)} images do not exist, for example "
            f"{printable(str(missing[0]), 300)}. Correct the list; its paths are relative to "
            "its own folder or to the dataset's."
        )
    return found
