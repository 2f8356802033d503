"""Reads Open Images: one CSV file of boxes per split, in fractions of the images.

pandas is not used: the file of the training split has 14 million rows, of which the images at hand
are often a small part, so rows are filtered while they are read.
"""

import csv
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...errors import DataError
from ..dataset import ChangeLog, DetectionDataset
from ..normalize import build_dataset
from .base import DATASET_FORMAT_REGISTRY, DatasetFormat, DataSource
from .files import (
    MAX_FRACTION,
    image_ids,
    image_sizes,
    read_headers,
    reading,
    sort_corners,
)
from .json_file import printable
from .openimages_files import OpenImagesLayout, find_csv_files, find_layout

_SIDES = ("XMin", "YMin", "XMax", "YMax")
_REQUIRED = ("ImageID", "LabelName", *_SIDES)
_ABSENT = "rows with confidence 0 (verified absent) left out"


@DATASET_FORMAT_REGISTRY.register()
class OpenImagesFormat(DatasetFormat):
    """A folder with ``*-annotations-bbox.csv``, as Open Images, CVAT and FiftyOne write it."""

    name = "openimages"

    @staticmethod
    def matches(path: Path) -> bool:
        """Whether a path is a CSV file, or a folder with the CSV file of a split."""
        if path.is_file():
            return path.suffix.lower() == ".csv"
        return bool(find_csv_files(path))

    @staticmethod
    def read(source: DataSource) -> DetectionDataset:
        """Read a split.

        Classes are those of the class descriptions, in their order; without that file, the labels
        that occur in any split, sorted.

        Raises:
            DataError: it cannot be read; the message names file, line and fix.
        """
        changes = ChangeLog()
        with reading(source.annotations):
            layout = find_layout(Path(source.annotations), source.split, source.images)
            classes = dict(layout.classes) or _labels_in(layout.all_csv_files)
            rows = _read_rows(layout, list(classes), changes)
            return _build(layout, classes, rows, source, changes)


@dataclass
class _Rows:
    """Boxes of a CSV file.

    Attributes:
        image_index: (M,) the image of each box.
        class_ids: (M,) class indices.
        corners: 4 * M numbers, [x1, y1, x2, y2] in fractions.
        is_group: (M,) one box for several objects.
        lines: (M,) numbers of the lines, from 1.
    """

    image_index: array = field(default_factory=lambda: array("q"))
    class_ids: array = field(default_factory=lambda: array("q"))
    corners: array = field(default_factory=lambda: array("d"))
    is_group: array = field(default_factory=lambda: array("b"))
    lines: array = field(default_factory=lambda: array("q"))


def _read_rows(layout: OpenImagesLayout, labels: list[str], changes: ChangeLog) -> _Rows:
    """Read the rows of the images at hand.

    Raises:
        DataError: a row is not understood.
    """
    file = layout.csv_file
    class_index = {label: index for index, label in enumerate(labels)}
    rows, skipped = _Rows(), Counter[str]()
    first: dict[str, int] = {}
    with open(file, encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines)
        try:
            columns = _columns(file, next(reader, []))
            image, label, *sides = (columns[name] for name in _REQUIRED)
            group, confidence = columns.get("IsGroupOf"), columns.get("Confidence")
            for row in reader:
                if not row:
                    continue
                try:
                    owner = layout.image_index.get(row[image])
                    if owner is None:
                        what = "rows of images that are not there left out"
                    elif confidence is not None and float(row[confidence] or 1) == 0:
                        what = _ABSENT
                    elif row[label] not in class_index:
                        what = "rows of classes that the class descriptions do not have left out"
                    else:
                        rows.corners.extend([float(row[side]) for side in sides])
                        rows.is_group.append(group is not None and row[group].strip() == "1")
                        rows.image_index.append(owner)
                        rows.class_ids.append(class_index[row[label]])
                        rows.lines.append(reader.line_num)
                        continue
                except (IndexError, ValueError):
                    raise DataError(
                        f"{file}, line {reader.line_num}: '{printable(','.join(row))}' lacks "
                        f"values or has some that are not numbers. It needs {', '.join(_REQUIRED)}."
                    ) from None
                skipped[what] += 1
                first.setdefault(what, reader.line_num)
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{file} is not a CSV file in UTF-8 ({error}).") from None
    for what, count in skipped.items():
        changes.add(what, f"line {first[what]}", count, lost=what != _ABSENT)
    return rows


def _columns(file: Path, header: list[str]) -> dict[str, int]:
    columns = {name.strip(): index for index, name in enumerate(header)}
    missing = [name for name in _REQUIRED if name not in columns]
    if missing:
        raise DataError(
            f"{file} lacks the columns {', '.join(missing)}. Its first line must name "
            f"{', '.join(_REQUIRED)}."
        )
    return columns


def _labels_in(files: list[Path]) -> dict[str, str]:
    """Return the labels of all files, sorted, with themselves as names."""
    labels = set(_column(files, "LabelName"))
    return {label: label for label in sorted(labels)}


def _column(files: list[Path], name: str) -> Iterator[str]:
    """Yield the values of a column in all rows of some files."""
    for file in files:
        with open(file, encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines)
            try:
                column = _columns(file, next(reader, []))[name]
                yield from (row[column] for row in reader if len(row) > column)
            except (csv.Error, UnicodeDecodeError) as error:
                raise DataError(f"{file} is not a CSV file in UTF-8 ({error}).") from None


def _build(
    layout: OpenImagesLayout,
    classes: dict[str, str],
    rows: _Rows,
    source: DataSource,
    changes: ChangeLog,
) -> DetectionDataset:
    file = layout.csv_file
    images, owners = _select_images(layout, rows, changes)
    corners = np.array(rows.corners, np.float64).reshape(-1, 4)

    def describe(row: int) -> str:
        return f"{file}, line {rows.lines[row]}"

    _refuse_pixels(corners, describe)
    corners = sort_corners(corners, describe, changes)
    headers = read_headers(images, str(file), source.keep_unreadable)
    heights, widths = image_sizes(headers, source.apply_exif)
    scale = np.stack([widths, heights, widths, heights], axis=1)[owners]
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1) * scale
    file_names = [str(image) for image in images]
    return build_dataset(
        source=str(file),
        class_names=list(classes.values()),
        category_ids=list(range(1, len(classes) + 1)),
        file_names=file_names,
        image_ids=image_ids(file_names, layout.image_folder),
        heights=heights,
        widths=widths,
        image_index=owners,
        class_ids=np.array(rows.class_ids, np.int64),
        boxes=boxes,
        is_crowd=np.array(rows.is_group, bool),
        describe=describe,
        changes=changes,
    )


def _select_images(
    layout: OpenImagesLayout, rows: _Rows, changes: ChangeLog
) -> tuple[list[Path], npt.NDArray[np.int64]]:
    """Return the images of the split (N,) and the image of each box (M,).

    Raises:
        DataError: no image has a row.
    """
    owners = np.array(rows.image_index, np.int64)
    used = np.bincount(owners, minlength=len(layout.images)) > 0
    if not used.any():
        raise DataError(
            f"{layout.csv_file}: none of its rows belongs to an image in {layout.image_folder}. "
            "An image's name without suffix must be its ImageID."
        )
    copies = np.zeros(len(used), bool)
    copies[list(layout.copies)] = True
    copies &= ~used
    without = ~used & ~copies
    is_shared = layout.is_shared_folder
    if is_shared is None:
        is_shared = bool(without.any() and (_in_other_splits(layout) & without).any())
        if not is_shared and without.sum() > used.sum():
            changes.warnings.append(
                f"{without.sum()} of the {len(used)} images in {layout.image_folder} have no row. "
                "If they belong to another split, name a folder without them."
            )
    # In a shared folder, images of other splits cannot be told from those without objects.
    kept = used if is_shared else ~copies
    fate = (
        "left out: other splits share the folder"
        if is_shared
        else "taken as images without objects"
    )
    for what, mask in (
        (f"images without a row {fate}", without),
        ("images of one name in several folders used once", copies),
    ):
        if mask.any():
            changes.add(what, layout.images[int(mask.argmax())], int(mask.sum()))
    images = [image for image, keep in zip(layout.images, kept, strict=True) if keep]
    return images, (np.cumsum(kept) - 1)[owners]


def _in_other_splits(layout: OpenImagesLayout) -> npt.NDArray[np.bool_]:
    """(N,) which images have a row in the CSV file of another split."""
    found = np.zeros(len(layout.images), bool)
    others = [file for file in layout.all_csv_files if file != layout.csv_file]
    for image_id in _column(others, "ImageID"):
        index = layout.image_index.get(image_id)
        if index is not None:
            found[index] = True
    return found


def _refuse_pixels(corners: npt.NDArray[np.float64], describe: Callable[[int], str]) -> None:
    with np.errstate(invalid="ignore"):
        wrong = (np.abs(corners) > MAX_FRACTION) & np.isfinite(corners)
    for row in np.flatnonzero(wrong.any(axis=1))[:1]:
        raise DataError(
            f"{describe(int(row))}: {corners[row].tolist()} are not fractions of the image. Divide "
            "XMin and XMax by its width, YMin and YMax by its height."
        )
