"""Reads YOLO datasets: a ``data.yaml`` and one text file of boxes per image.

supervision's reader is not used: it keeps coordinates in 32 bits, takes the folders of one split in
one layout, and neither compares splits nor counts what is doubtful.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...errors import DataError
from ..dataset import ChangeLog, DetectionDataset
from ..normalize import build_dataset
from .base import DATASET_FORMAT_REGISTRY, DatasetFormat, DataSource
from .files import (
    image_ids,
    image_sizes,
    list_images,
    map_threads,
    read_headers,
    read_text,
    reading,
)
from .yolo_files import (
    YoloDescription,
    find_description_file,
    images_of_split,
    read_description,
)
from .yolo_labels import CLASS_FILES, LabelFinder, LabelParser, LabelRow


@DATASET_FORMAT_REGISTRY.register()
class YoloFormat(DatasetFormat):
    """A YAML file or its folder; also folders with ``obj.data`` (darknet) or ``classes.txt``."""

    name = "yolo"

    @staticmethod
    def matches(path: Path) -> bool:
        """Whether a path is a YAML or ``.data`` file, or a folder with one or with labels."""
        file = find_description_file(path)
        if file is None or file.suffix.lower() in (".yaml", ".yml", ".data"):
            return file is not None
        # Pascal VOC and Open Images may have a list of classes, too.
        return _has_label_files(path)

    @staticmethod
    def read(source: DataSource) -> DetectionDataset:
        """Read a split. Sizes come from the images' headers; see `LabelParser` for the rows.

        Raises:
            DataError: it cannot be read; the message names file, line and fix.
        """
        with reading(source.annotations):
            return _read(source)


def _read(source: DataSource) -> DetectionDataset:
    path = Path(source.annotations)
    file = find_description_file(path) if path.exists() else None
    if file is None:
        raise DataError(
            f"{path} is no YOLO dataset. Name its data.yaml, or a folder with data.yaml, "
            "obj.data or classes.txt."
        )
    description, changes = read_description(file), ChangeLog()
    if source.images:
        images, in_folders = list_images(Path(source.images)), True
        if not images:
            raise DataError(f"There are no images in {source.images}. Check the path.")
    else:
        images, in_folders = images_of_split(
            description, source.split, changes, source.keep_unreadable
        )
    name = f"{file} ({source.split})"
    if not description.has_splits:
        name = str(file)
        changes.warnings.append(
            f"{description.folder} has no splits, so all of its images are used, whatever the "
            "split."
        )
    labels = _find_labels(name, images, description.folder, in_folders, changes)
    return _build(name, description, images, labels, source, changes)


def _has_label_files(folder: Path) -> bool:
    for candidate in (folder, folder / "labels", folder / "obj_train_data", folder / "train"):
        for pattern in ("*.txt", "*/*.txt"):
            if any(f.name not in CLASS_FILES for f in candidate.glob(pattern)):
                return True
    return False


def _find_labels(
    name: str, images: list[Path], root: Path, in_folders: bool, changes: ChangeLog
) -> list[Path | None]:
    """Return the label file of each image; None for an image without one."""
    finder = LabelFinder(root)
    labels = [finder.find(image) for image in images]
    owner: dict[Path, Path] = {}
    for image, label in zip(images, labels, strict=True):
        if label is None:
            changes.add("images without a label file taken as images without objects", image)
        elif label in owner:
            raise DataError(
                f"{owner[label]} and {image} share the label file {label}, so whose boxes it has "
                "is unclear. Rename or remove one of the images."
            )
        else:
            owner[label] = image
    if not owner:
        expected = finder.folders(images[0].parent)[0] / f"{images[0].stem}.txt"
        raise DataError(
            f"{name}: none of its {len(images)} images has a label file. That of {images[0]} "
            f"should be {expected}."
        )
    if in_folders:
        unused = finder.unused(set(owner))
        if unused:
            changes.add("label files without an image", unused[0], len(unused), lost=True)
    return labels


def _build(
    name: str,
    description: YoloDescription,
    images: list[Path],
    labels: list[Path | None],
    source: DataSource,
    changes: ChangeLog,
) -> DetectionDataset:
    headers = read_headers(images, name, source.keep_unreadable)
    heights, widths = image_sizes(headers, source.apply_exif)
    texts = map_threads(lambda label: read_text(label) if label else "", labels)
    numbers = description.class_numbers
    parser = LabelParser(
        {number: index for index, number in enumerate(numbers)},
        description.class_names,
        description.file,
        changes,
        description.num_keypoint_values,
    )
    image_index: list[int] = []
    rows: list[LabelRow] = []
    for index, (label, text) in enumerate(zip(labels, texts, strict=True)):
        if label is not None and text:
            found = parser.parse(label, text)
            image_index += [index] * len(found)
            rows += found
    owners = np.array(image_index, np.int64)
    file_names = [str(image) for image in images]
    return build_dataset(
        source=name,
        class_names=description.class_names,
        category_ids=numbers,
        file_names=file_names,
        image_ids=image_ids(file_names, description.folder),
        heights=heights,
        widths=widths,
        image_index=owners,
        class_ids=[row.class_index for row in rows],
        boxes=_to_pixels([row.box for row in rows], heights[owners], widths[owners]),
        describe=lambda row: f"{labels[image_index[row]]}, line {rows[row].line}",
        changes=changes,
    )


def _to_pixels(
    boxes: list[tuple[float, float, float, float]],
    heights: npt.NDArray[np.int32],
    widths: npt.NDArray[np.int32],
) -> npt.NDArray[np.float64]:
    """Convert [center x, center y, width, height] in fractions to [x, y, width, height]."""
    fractions = np.array(boxes, np.float64).reshape(-1, 4)
    corner = fractions[:, :2] - fractions[:, 2:] / 2
    return np.concatenate([corner, fractions[:, 2:]], axis=1) * np.stack(
        [widths, heights, widths, heights], axis=1
    )
