"""Finds the parts of a Pascal VOC dataset: annotation files of a split, images, classes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tood_runtime.sources import IMAGE_SUFFIXES

from ...errors import DataError
from ..dataset import ChangeLog
from .files import (
    all_splits,
    list_files,
    read_class_names,
    read_lines,
    refuse_repeated_names,
    split_names,
)
from .json_file import printable
from .voc_xml import VocAnnotation

_ANNOTATION_FOLDERS = ("Annotations", "annotations")
# Where images lie next to the folder of annotations.
_IMAGE_FOLDERS = ("JPEGImages", "images", "Images", "data")
_CLASS_FILES = ("labels.txt", "classes.txt", "predefined_classes.txt")
_LABEL_MAP = "labelmap.txt"  # CVAT's: lines "name:color:parts:actions"


@dataclass(frozen=True)
class VocLayout:
    """Where the files of a dataset are.

    Attributes:
        root: the folder of the dataset.
        files: annotation files of the split.
        all_files: those of all splits.
        image_folders: where the images of the split may be, best first; the folder of the
            annotation file itself comes before them.
        has_splits: False if the whole folder is one dataset.
        has_lists: the splits are lists of images, so other images belong to other splits.
    """

    root: Path
    files: list[Path]
    all_files: list[Path]
    image_folders: list[Path]
    has_splits: bool
    has_lists: bool


def has_annotations(folder: Path) -> bool:
    """Whether a folder has XML files where those of a Pascal VOC dataset are."""
    root = _find_root(folder)
    places = [root, *(root / name for name in (*_ANNOTATION_FOLDERS, *all_splits()))]
    places += [root / name / sub for name in all_splits() for sub in _ANNOTATION_FOLDERS]
    return any(next(place.glob("*.xml"), None) is not None for place in places)


def find_layout(folder: Path, split: str, changes: ChangeLog) -> VocLayout:
    """Find the annotation files of a split.

    Raises:
        DataError: there are none, or the split does not exist.
    """
    root = _find_root(folder)
    all_files = [path for path in list_files(root) if path.suffix.lower() == ".xml"]
    if not all_files:
        raise DataError(f"There are no XML files in {root}. Name the folder of the dataset.")
    annotations = next((root / n for n in _ANNOTATION_FOLDERS if (root / n).is_dir()), None)
    lists = root / "ImageSets" / "Main"
    has_lists = annotations is not None and lists.is_dir()
    if annotations is not None and has_lists:
        files = _listed_files(lists, annotations, split, all_files)
        folders, has_splits = [root / name for name in _IMAGE_FOLDERS], True
    else:
        part = next((root / name for name in split_names(split) if (root / name).is_dir()), None)
        splits = [name for name in all_splits() if (root / name).is_dir()]
        has_splits = bool(splits)
        if part is None and splits:
            raise DataError(
                f"{root} has no split {split!r}. Available: {', '.join(splits)}. Choose with "
                "DATASETS.TRAIN_SPLIT and DATASETS.TEST_SPLIT."
            )
        base = part or root
        files = [path for path in all_files if path.is_relative_to(base)]
        folders = [base / name for name in _IMAGE_FOLDERS]
        if not has_splits:
            changes.warnings.append(
                f"{root} has no splits, so all of its images are used, whatever the split."
            )
    if not files:
        raise DataError(f"{root}: the split {split!r} has no XML files.")
    return VocLayout(root, files, all_files, folders, has_splits, has_lists)


def find_images(
    layout: VocLayout,
    annotations: Sequence[VocAnnotation],
    image_folder: str,
    changes: ChangeLog,
    keep_missing: bool = False,
) -> list[Path | None]:
    """Find the image of each annotation file: of the same name, else of the name in the file.

    Args:
        layout: of the dataset.
        annotations: of the split.
        image_folder: of the images, where the config names it.
        changes: where changes are counted.
        keep_missing: return the path that a missing image should have.

    Raises:
        DataError: images are missing, or two files have the same image.
    """
    folders = [Path(image_folder)] if image_folder else layout.image_folders
    index = _ImageIndex()
    images: list[Path | None] = []
    missing = []
    owner: dict[Path, Path] = {}
    for annotation in annotations:
        places = [*([] if image_folder else [annotation.path.parent]), *folders]
        # A name without suffix may have dots: "road.v2".
        written = Path(annotation.file_name.replace("\\", "/")).name
        image = index.find(places, annotation.path.stem)
        if image is None and written:
            image = index.find(places, Path(written).stem) or index.find(places, written)
            if image is not None:
                changes.add("images found by the name in the file", annotation.path)
        if image is None:
            missing.append(annotation.path)
            image = folders[0] / (written or f"{annotation.path.stem}.jpg")
        elif image in owner:
            raise DataError(
                f"{owner[image]} and {annotation.path} both annotate {image}. Remove one of them."
            )
        else:
            owner[image] = annotation.path
        images.append(image)
    if missing and not keep_missing:
        shown = ", ".join(map(str, folders))
        raise DataError(
            f"{len(missing)} annotation files have no image, for example {missing[0]}. Its image "
            f"must have the same name and lie next to it or in {shown}."
        )
    unlabeled = index.unused(set(owner)) if not layout.has_lists else []
    if unlabeled:
        what = "images without an annotation file left out"
        changes.add(what, unlabeled[0], len(unlabeled), lost=True)
    return images


def read_class_list(root: Path) -> list[str]:
    """Read the list of classes of a dataset; empty if it has none.

    Raises:
        DataError: a list is empty or has a class twice.
    """
    for name in _CLASS_FILES:
        if (root / name).is_file():
            return read_class_names(root / name)
    if (root / _LABEL_MAP).is_file():
        lines = [line for line in read_lines(root / _LABEL_MAP) if not line.startswith("#")]
        names = [line.split(":")[0].strip() for line in lines]
        names = [name for name in names if name and name != "background"]
        refuse_repeated_names(names, root / _LABEL_MAP)
        return names
    return []


class _ImageIndex:
    """Finds images by their name without suffix; each folder is listed once."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, Path]] = {}

    def find(self, folders: Sequence[Path], stem: str) -> Path | None:
        """Return the image of a name in the first folder that has one."""
        for folder in folders:
            image = self._list(folder).get(stem)
            if image is not None:
                return image
        return None

    def unused(self, used: set[Path]) -> list[Path]:
        """Return the images in the searched folders that are not used."""
        found = {image for images in self._folders.values() for image in images.values()}
        return sorted(found - used)

    def _list(self, folder: Path) -> dict[str, Path]:
        if folder not in self._folders:
            paths = sorted(folder.iterdir(), reverse=True) if folder.is_dir() else []
            self._folders[folder] = {
                path.stem: path
                for path in paths
                if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
            }
        return self._folders[folder]


def _find_root(folder: Path) -> Path:
    """Return the folder of the dataset, which may be the only one in it, as in VOCdevkit."""
    if any((folder / name).is_dir() for name in _ANNOTATION_FOLDERS):
        return folder
    inside = [path for path in folder.iterdir() if path.is_dir()]
    found = [path for path in inside if (path / "Annotations").is_dir()]
    found = [path for path in found if path.name not in all_splits()]
    if len(found) > 1:
        names = ", ".join(sorted(path.name for path in found))
        raise DataError(f"{folder} has several datasets: {names}. Name one of these folders.")
    return found[0] if found else folder


def _listed_files(lists: Path, annotations: Path, split: str, all_files: list[Path]) -> list[Path]:
    """Return the annotation files of the images in a list of ImageSets/Main."""
    names = (*split_names(split), split)
    file = next((p for name in names if (p := lists / f"{name}.txt").is_file()), None)
    if file is None:
        stems = sorted(path.stem for path in lists.glob("*.txt"))
        # Pascal VOC has lists of each class, too: "cat_train".
        plain = [stem for stem in stems if "_" not in stem] or stems
        raise DataError(
            f"{lists} has no list {split}.txt. Available: {', '.join(plain) or 'none'}. Choose "
            "with DATASETS.TRAIN_SPLIT and DATASETS.TEST_SPLIT."
        )
    by_name = {
        path.relative_to(annotations).with_suffix("").as_posix(): path
        for path in all_files
        if path.is_relative_to(annotations)
    }
    found, missing = [], []
    for line in read_lines(file):
        path = next((by_name[x] for x in _possible_names(line) if x in by_name), None)
        if path is None:
            missing.append(line)
        else:
            found.append(path)
    if missing:
        raise DataError(
            f"{file}: {len(missing)} images have no XML file in {annotations}, for example "
            f"'{printable(missing[0])}'. Add the files or remove the lines."
        )
    return list(dict.fromkeys(found))


def _possible_names(line: str) -> list[str]:
    """Return what a line of a list may mean: a name, in quotes, with suffix, path or a flag."""
    line = line.strip('"').replace("\\", "/")
    names = [line, *line.rsplit(maxsplit=1)[:1]]
    # Unlike pathlib, this accepts names such as "" and "/".
    names += [os.path.splitext(Path(name).as_posix())[0] for name in names]
    return [*names, *(Path(name).name for name in names)]
