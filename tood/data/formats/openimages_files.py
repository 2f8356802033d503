"""Finds the parts of an Open Images dataset: CSV files, class descriptions, images."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import DataError
from .files import all_splits, existing_folder, list_images, read_text, split_names
from .json_file import printable

# Folders of the CSV files below that of the dataset: Open Images itself, CVAT, OIDv4_ToolKit.
_CSV_FOLDERS = (".", "annotations", "csv_folder", "labels", "csv")
_BOXES = "annotations-bbox.csv"
_FIFTYONE_BOXES = "labels/detections.csv"
# File names of the class descriptions, best first: those of classes with boxes, CVAT's, FiftyOne's.
_DESCRIPTIONS = ("*class-descriptions-boxable.csv", "*class-descriptions.csv", "classes.csv")


@dataclass(frozen=True)
class OpenImagesLayout:
    """Where the files of a dataset are.

    Attributes:
        csv_file: the boxes of the split.
        all_csv_files: the boxes of all splits.
        classes: names of classes by label ("/m/01g317"); empty without class descriptions.
        image_folder: of the images.
        images: N paths.
        image_index: indices of images by ImageID: the name without suffix, or the path below the
            folder without suffix.
        copies: indices of images whose name another image in another folder has already.
        is_shared_folder: other splits have their images in the same folder; None if only their
            rows say so.
    """

    csv_file: Path
    all_csv_files: list[Path]
    classes: dict[str, str]
    image_folder: Path
    images: list[Path]
    image_index: dict[str, int]
    copies: set[int]
    is_shared_folder: bool | None


def find_csv_files(folder: Path) -> dict[str, Path]:
    """Return the CSV files of the splits, by the name of the split in the dataset."""
    found: dict[str, Path] = {}
    for place in (folder / name for name in _CSV_FOLDERS):
        files = sorted(place.glob(f"*{_BOXES}")) if place.is_dir() else []
        for file in filter(Path.is_file, files):  # a named pipe would be waited for
            name = file.name[: -len(_BOXES)].strip("-_").lower()
            found.setdefault(name.split("-")[-1].split("_")[-1], file)  # "oidv6-train"
    for name in all_splits():
        if (folder / name / _FIFTYONE_BOXES).is_file():
            found.setdefault(name, folder / name / _FIFTYONE_BOXES)
    return found


def find_layout(path: Path, split: str, image_folder: str) -> OpenImagesLayout:
    """Find the files of a split.

    Args:
        path: the folder of the dataset, or the CSV file of a split.
        split: name of the split.
        image_folder: of the images, where the config names it.

    Raises:
        DataError: a file or the images do not exist.
    """
    if path.is_file():
        root = path.parent
        root = root.parent if root.name in _CSV_FOLDERS else root
        csv_file, name = path, path.name.replace(f"-{_BOXES}", "").split("-")[-1]
        all_files = list(find_csv_files(root).values())
        all_files = all_files if path in all_files else [path]
    else:
        root, files = path, find_csv_files(path) if path.is_dir() else {}
        found = next((x for x in split_names(split) if x in files), None)
        if found is None:
            available = ", ".join(files) or "none"
            raise DataError(
                f"{path} has no file {split}-{_BOXES}. Available splits: {available}. Choose with "
                "DATASETS.TRAIN_SPLIT and DATASETS.TEST_SPLIT."
            )
        name, csv_file, all_files = found, files[found], list(files.values())
    classes = _read_descriptions(root, csv_file)
    folder, is_shared = _find_image_folder(root, name, split, image_folder)
    images = list_images(folder, None if image_folder else root)
    if not images:
        raise DataError(f"There are no images in {folder}. Download them, or check the path.")
    image_index, copies = _index_images(folder, images)
    return OpenImagesLayout(
        csv_file, all_files, classes, folder, images, image_index, copies, is_shared
    )


def _find_image_folder(
    root: Path, name: str, split: str, image_folder: str
) -> tuple[Path, bool | None]:
    """Return the folder of the images, and whether other splits share it, if that is known."""
    if image_folder:
        if not Path(image_folder).is_dir():
            raise DataError(f"There is no image folder {image_folder}. Check the path.")
        return Path(image_folder), None
    own = []
    for x in dict.fromkeys((name, *split_names(split))):
        own += [root / x / "data", root / "images" / x, root / x / "images", root / x]
        own.append(root / "Dataset" / x)
    shared = [root / "images", root / "data"]
    folder = existing_folder(own)
    if folder is not None:
        return folder, False
    folder = existing_folder(shared)
    if folder is None:
        raise DataError(
            f"{root} has no folder of images: {name}, images/{name}, {name}/data or images. Set "
            "DATASETS.TRAIN_IMAGES or DATASETS.TEST_IMAGES."
        )
    return folder, True


def _index_images(folder: Path, images: list[Path]) -> tuple[dict[str, int], set[int]]:
    """Return indices by ImageID, and the images whose name has been seen before.

    CVAT writes paths as ImageIDs. OIDv4_ToolKit sorts images into a folder per class, so copies of
    one image may be in several.
    """
    by_name: dict[str, int] = {}
    copies = set()
    for index, path in enumerate(images):
        if by_name.setdefault(path.stem, index) != index:
            copies.add(index)
    by_path = {
        path.relative_to(folder).with_suffix("").as_posix(): index
        for index, path in enumerate(images)
    }
    return {**by_path, **by_name}, copies


def _description_files(root: Path, csv_file: Path) -> Iterator[Path]:
    places = [root / name for name in _CSV_FOLDERS] + [root / "metadata", csv_file.parent]
    places.append(csv_file.parent.parent / "metadata")  # FiftyOne's, of each split
    for pattern in _DESCRIPTIONS:
        for place in places:
            yield from sorted(place.glob(pattern)) if place.is_dir() else ()


def _read_descriptions(root: Path, csv_file: Path) -> dict[str, str]:
    """Read names by label from the class descriptions; empty if there is no such file."""
    file = next(_description_files(root, csv_file), None)
    if file is None:
        return {}
    classes: dict[str, str] = {}
    reader = csv.reader(io.StringIO(read_text(file), newline=""))
    try:
        rows = list(reader)
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num} is not CSV ({error}).") from None
    for number, row in enumerate(rows, start=1):
        if not row or row[:2] == ["LabelName", "DisplayName"]:
            continue
        if len(row) < 2 or not row[0].strip():
            raise DataError(f"{file}, line {number}: {printable(row)} is not a label and a name.")
        if row[0] in classes:
            raise DataError(f"{file}, line {number}: the label {printable(row[0])} occurs twice.")
        classes[row[0]] = row[1].strip()
    if not classes:
        raise DataError(f"{file} is empty. Write lines such as /m/01g317,Person.")
    return classes
