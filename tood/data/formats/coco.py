"""COCO format, and what annotation tools write under that name."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import DataError
from ..dataset import ChangeLog, DetectionDataset, FileId
from ..keypoint_arrays import PIXEL_CENTER
from ..normalize import build_dataset, distinct_names
from .base import DATASET_FORMAT_REGISTRY, DatasetFormat, DataSource
from .coco_categories import read_categories
from .coco_file import COCOFile, parse_coco
from .files import image_sizes, read_headers
from .ids import IdTable, whole_number
from .image_paths import find_images
from .json_file import printable
from .keypoints import read_keypoint_names
from .masks import select_masks

Rows = npt.NDArray[np.int64]


@DATASET_FORMAT_REGISTRY.register()
class COCOFormat(DatasetFormat):
    """A JSON file with "images", "annotations" and "categories", and a folder of images.

    Ids may be whole numbers of any size or text; annotation ids are not used at all. Without
    "annotations", as in COCO's test-dev, only the images are read.
    """

    name = "coco"
    has_splits = False
    has_keypoints = True

    @staticmethod
    def matches(path: Path) -> bool:
        """Whether it is a file whose name or first character says JSON."""
        if not path.is_file():
            return False
        if path.suffix.lower() == ".json":
            return True
        with path.open("rb") as file:
            return file.read(64).lstrip(b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n")[:1] in (b"{", b"[")

    @staticmethod
    def read(source: DataSource) -> DetectionDataset:
        """Read a file and find its images.

        Raises:
            DataError: see `DatasetFormat.read`.
        """
        file = parse_coco(source.annotations, source.with_masks, source.num_keypoints)
        images = file.entries("images")
        table = IdTable(file.shown, "images", file.values("images", "id"))
        names = _file_names(file)
        used = _rows_with_boxes(file)
        changes = file.rows.changes
        image_index = file.resolve("image_id", table, used)
        categories = read_categories(file, used, changes)
        paths = find_images(file.shown, source.images, names, changes, source.keep_unreadable)
        heights, widths = _read_sizes(file, images, paths, source)
        segmentations = None
        if source.with_masks:
            used, segmentations = _check_masks(
                file, used, heights[image_index], widths[image_index]
            )
        rows = file.rows
        keypoints, keypoint_names = None, []
        if rows.keypoints is not None:
            keypoint_names = read_keypoint_names(
                file.shown, file.content["categories"], source.num_keypoints
            )
            sizes = np.stack([heights, widths], axis=1)[image_index[used]]
            keypoints = rows.keypoints.select(
                used,
                file.shown,
                lambda row: f"{rows.describe(row)} of {printable(names[image_index[row]])}",
                rows.boxes[used],
                sizes,
                changes,
                PIXEL_CENTER,
            )
        has_annotations = file.has_annotations
        del images
        file.content.clear()  # hundreds of MB that are not needed any more
        # All of them as a slice are views instead of copies.
        part = slice(None) if len(used) == len(rows) else used
        return build_dataset(
            source=file.shown,
            class_names=categories.names,
            category_ids=categories.ids,
            file_names=paths,
            image_ids=table.ids,
            heights=heights,
            widths=widths,
            image_index=image_index[part],
            class_ids=categories.class_ids[part],
            boxes=rows.boxes[part],
            is_crowd=np.frombuffer(rows.is_crowd, bool)[part],
            areas=rows.areas[part],
            segmentations=segmentations,
            keypoints=keypoints,
            keypoint_names=keypoint_names,
            describe=lambda row: rows.describe(int(used[row])),
            changes=changes,
            annotated=has_annotations,
        )


def read_classes(json_file: str) -> tuple[list[str], list[FileId]]:
    """Return the names and ids of the classes of a COCO file, without looking for its images.

    Raises:
        DataError: it is not such a file.
    """
    file = parse_coco(json_file)
    categories = read_categories(file, _rows_with_boxes(file), ChangeLog())
    return distinct_names(categories.names, categories.ids, ChangeLog()), categories.ids


def _file_names(file: COCOFile) -> list[str]:
    names = file.values("images", "file_name")
    for position, name in enumerate(names):
        if not isinstance(name, str) or not name:
            raise DataError(
                f"{file.shown}: images[{position}]: file_name must be text, not {printable(name)}."
            )
    return names


def _rows_with_boxes(file: COCOFile) -> Rows:
    """Return the rows of annotations with a box.

    Raises:
        DataError: a box or a flag cannot be understood, or none of the annotations has a box.
    """
    rows = file.rows
    if rows.error:
        raise DataError(f"{file.shown}: {rows.error}.")
    used = np.flatnonzero(np.frombuffer(rows.has_box, bool))
    if len(rows) and not len(used):
        raise DataError(
            f"{file.shown}: none of its {len(rows)} annotations has a bbox. A detector needs "
            "instance annotations, not captions, image labels or panoptic segments."
        )
    return used


def _read_sizes(
    file: COCOFile, images: list[dict[str, Any]], paths: list[str], source: DataSource
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return heights and widths (N,); from the image where the file does not say."""
    sizes = np.zeros((len(images), 2), np.int32)
    unknown = []
    for index, image in enumerate(images):
        height, width = image.get("height"), image.get("width")
        if type(height) is not int or type(width) is not int:
            height, width = whole_number(height) or 0, whole_number(width) or 0
        if 0 < height < 2**31 and 0 < width < 2**31:
            sizes[index] = height, width
        else:
            unknown.append(index)
    if unknown:
        first = images[unknown[0]]
        example = f"{printable(first['file_name'])}: {first.get('width')!r}x{first.get('height')!r}"
        file.rows.changes.add("image sizes read from the images", example, len(unknown))
        unknown_paths = [paths[index] for index in unknown]
        headers = read_headers(unknown_paths, file.shown, source.keep_unreadable)
        sizes[unknown] = np.stack(image_sizes(headers, source.apply_exif), axis=1)
    return sizes[:, 0].copy(), sizes[:, 1].copy()


def _check_masks(
    file: COCOFile, used: Rows, heights: npt.NDArray[np.int32], widths: npt.NDArray[np.int32]
) -> tuple[Rows, list[Any]]:
    """Return the rows whose segmentation is valid, and these."""
    rows = file.rows
    kept, masks = select_masks(
        (
            (row, (rows.segmentations or [])[row], int(heights[row]), int(widths[row]))
            for row in used.tolist()
        ),
        rows.boxes,
        rows.is_crowd,
        rows.describe,
        rows.changes,
    )
    return np.array(kept, np.int64), masks
