"""Normalizes what a function in detectron2's ``DatasetCatalog`` returns."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pycocotools.mask as mask_util
from detectron2.structures import BoxMode

from ..errors import DataError
from .dataset import ChangeLog, DetectionDataset, FileId
from .formats.coco_annotations import read_flag
from .formats.files import image_sizes, read_headers
from .formats.ids import IdTable, whole_number
from .formats.json_file import printable
from .formats.keypoints import KeypointRows
from .formats.masks import select_masks
from .normalize import build_dataset

# Modes of four values in pixels.
_MODES = (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)


def read_dicts(
    name: str,
    dicts: Any,
    class_names: Sequence[str] = (),
    category_ids: Sequence[FileId] = (),
    with_masks: bool = False,
    apply_exif: bool = True,
    keep_unreadable: bool = False,
    num_keypoints: int = 0,
    keypoint_names: Sequence[str] = (),
) -> DetectionDataset:
    """Bring detectron2's dataset dicts into the normalized form.

    Args:
        name: of the dataset, for messages.
        dicts: what its function returned.
        class_names: the metadata's ``thing_classes``; without them, classes are numbered.
        category_ids: ids of the classes where they are known, by class index.
        with_masks: see `DataSource`.
        apply_exif: see `DataSource`; for dicts without height and width.
        keep_unreadable: see `DataSource`.
        num_keypoints: see `DataSource`.
        keypoint_names: the metadata's; none where they are not known.

    Raises:
        DataError: something does not follow detectron2's format; the message names the image.
    """
    shown = f"the dataset {printable(name)}"
    records = list(dicts) if isinstance(dicts, (list, tuple)) else None
    if records is None or not all(isinstance(record, dict) for record in records):
        raise DataError(f"The function of {shown} must return a list of dicts, one per image.")
    for position, record in enumerate(records):
        if not isinstance(record.get("file_name"), str):
            raise DataError(f"Image {position} of {shown} lacks its file_name. Add it.")
    rows = _Rows(shown, num_keypoints)
    for position, record in enumerate(records):
        for annotation in record.get("annotations") or ():
            rows.add(position, record, annotation)
    num_classes = len(class_names) or max(rows.class_ids, default=0) + 1
    _validate_class_ids(shown, records, rows, num_classes)
    changes = rows.changes
    heights, widths = _sizes(shown, records, changes, apply_exif, keep_unreadable)

    def describe(row: int) -> str:
        return f"a box of {printable(records[rows.image_index[row]]['file_name'])}"

    used, masks = np.arange(len(rows.boxes)), None
    if with_masks:
        used, masks = rows.select_masks(heights, widths, describe)
    boxes = np.array(rows.boxes, np.float64).reshape(-1, 4)[used]
    image_index = np.array(rows.image_index, np.int64)[used]
    keypoints = None
    if rows.keypoints is not None:
        sizes = np.stack([heights, widths], axis=1)[image_index]
        keypoints = rows.keypoints.select(used, shown, describe, boxes, sizes, changes)
    return build_dataset(
        source=shown,
        class_names=class_names or [f"class {index}" for index in range(num_classes)],
        category_ids=category_ids if len(category_ids) == num_classes else range(num_classes),
        file_names=[record["file_name"] for record in records],
        image_ids=_image_ids(shown, records),
        heights=heights,
        widths=widths,
        image_index=image_index,
        class_ids=np.array(rows.class_ids, np.int64)[used],
        boxes=boxes,
        is_crowd=np.array(rows.is_crowd, bool)[used],
        segmentations=masks,
        keypoints=keypoints,
        keypoint_names=() if keypoints is None else keypoint_names,
        describe=lambda row: describe(int(used[row])),
        changes=changes,
        annotated=not records or any("annotations" in record for record in records),
    )


class _Rows:
    """The annotations of all dicts, one row each."""

    def __init__(self, shown: str, num_keypoints: int = 0) -> None:
        self.shown = shown
        self.image_index: list[int] = []
        self.class_ids: list[int] = []
        self.boxes: list[list[float]] = []
        self.is_crowd: list[bool] = []
        self.segmentations: list[Any] = []
        self.keypoints = KeypointRows(num_keypoints) if num_keypoints else None
        self.changes = ChangeLog()

    def add(self, position: int, record: dict[str, Any], annotation: Any) -> None:
        """Add an annotation of the image at a position."""
        where = f"{self.shown}: an annotation of {printable(record['file_name'])}"
        if not isinstance(annotation, dict):
            raise DataError(f"{where} is {printable(annotation)}, not a dict.")
        category = annotation.get("category_id")
        class_id = whole_number(category.item() if isinstance(category, np.generic) else category)
        if class_id is None or class_id < 0:
            raise DataError(
                f"{where} has the category_id {printable(category)}. It must be a class index, "
                "from 0."
            )
        self.image_index.append(position)
        self.class_ids.append(class_id)
        self.boxes.append(_box(where, annotation))
        self.is_crowd.append(self._is_crowd(where, annotation))
        self.segmentations.append(annotation.get("segmentation"))
        if self.keypoints is not None:
            self.keypoints.append(_plain_keypoints(annotation.get("keypoints")))

    def _is_crowd(self, where: str, annotation: dict[str, Any]) -> bool:
        flags = []
        for key in ("iscrowd", "ignore"):
            value = annotation.get(key)
            flag = read_flag(value.item() if isinstance(value, np.generic) else value)
            if flag is None:
                raise DataError(f"{where} has the {key} {printable(value)}. It must be 0 or 1.")
            flags.append(flag)
            if isinstance(value, str):
                what = f"values of {key} written as text read as {int(flag)}"
                self.changes.add(what, f"{where}: {printable(repr(value))}")
        return any(flags)

    def select_masks(
        self,
        heights: npt.NDArray[np.int32],
        widths: npt.NDArray[np.int32],
        describe: Callable[[int], str],
    ) -> tuple[npt.NDArray[np.int64], list[Any]]:
        """Return the rows whose segmentation is valid, and these."""
        kept, masks = select_masks(
            (
                (row, _plain_segmentation(mask), int(heights[image]), int(widths[image]))
                for row, (mask, image) in enumerate(
                    zip(self.segmentations, self.image_index, strict=True)
                )
            ),
            np.array(self.boxes, np.float64).reshape(-1, 4),
            self.is_crowd,
            describe,
            self.changes,
        )
        return np.array(kept, np.int64), masks


def _plain_segmentation(segmentation: Any) -> Any:
    """Return what detectron2 accepts in the types of a JSON file."""
    if isinstance(segmentation, np.ndarray) and segmentation.ndim == 2:  # a mask of the image
        segmentation = mask_util.encode(np.asfortranarray(segmentation, np.uint8))
    if isinstance(segmentation, dict):
        size, counts = segmentation.get("size"), segmentation.get("counts")
        return {
            "size": _plain_values(size),
            "counts": counts.decode("ascii", "replace") if isinstance(counts, bytes) else counts,
        }
    if isinstance(segmentation, (list, tuple)):
        return [_plain_values(polygon) for polygon in segmentation]
    return segmentation


def _plain_keypoints(keypoints: Any) -> Any:
    """Return what detectron2 accepts, such as (P, 3), as a list of numbers; else unchanged."""
    if isinstance(keypoints, np.ndarray):
        return keypoints.reshape(-1).tolist()
    if isinstance(keypoints, (list, tuple)):
        plain = [_plain_values(point) for point in _plain_values(keypoints)]
        if plain and all(isinstance(point, list) and len(point) == 3 for point in plain):
            return [value for point in plain for value in point]
        return plain
    return keypoints


def _plain_values(values: Any) -> Any:
    """Return a list of Python's numbers for an array, a tuple or a list; all else unchanged."""
    if isinstance(values, np.ndarray):
        return values.tolist()
    if isinstance(values, (list, tuple)):
        return [value.item() if isinstance(value, np.generic) else value for value in values]
    return values


def _box(where: str, annotation: dict[str, Any]) -> list[float]:
    """Return [x, y, width, height]."""
    box, mode = annotation.get("bbox"), annotation.get("bbox_mode")
    try:
        mode = BoxMode(mode)
    except ValueError:
        raise DataError(
            f"{where} has the bbox_mode {printable(mode)}, which is not a BoxMode."
        ) from None
    if mode not in _MODES:
        available = ", ".join(accepted.name for accepted in _MODES)
        raise DataError(f"{where} has the bbox_mode {mode.name}. Available: {available}.")
    try:
        values = np.asarray(box, np.float64).tolist()
    except (TypeError, ValueError, OverflowError):
        values = None
    if not isinstance(values, list) or len(values) != 4:
        raise DataError(f"{where} has the bbox {printable(box)}, not four numbers.")
    converted: list[float] = BoxMode.convert(values, mode, BoxMode.XYWH_ABS)
    return converted


def _validate_class_ids(
    shown: str, records: list[dict[str, Any]], rows: _Rows, num_classes: int
) -> None:
    for position, class_id in zip(rows.image_index, rows.class_ids, strict=True):
        if class_id >= num_classes:
            raise DataError(
                f"{shown}: an annotation of {printable(records[position]['file_name'])} has the "
                f"category_id {class_id}, but there are {num_classes} classes. category_id is a "
                "class index, from 0."
            )


def _image_ids(shown: str, records: list[dict[str, Any]]) -> list[FileId]:
    """Return the ids of the dicts, or their positions where none has one."""
    if not any("image_id" in record for record in records):
        return list(range(len(records)))
    values = [record.get("image_id") for record in records]
    items = [value.item() if isinstance(value, np.generic) else value for value in values]
    return IdTable(shown, "images", items).ids


def _sizes(
    shown: str,
    records: list[dict[str, Any]],
    changes: ChangeLog,
    apply_exif: bool,
    keep_unreadable: bool,
) -> tuple[Any, Any]:
    """Return heights and widths (N,); from the image where a dict does not say."""
    sizes = np.zeros((len(records), 2), np.int32)
    unknown = []
    for index, record in enumerate(records):
        try:
            sizes[index] = int(record["height"]), int(record["width"])
        except (KeyError, TypeError, ValueError, OverflowError):
            sizes[index] = 0
        if (sizes[index] <= 0).any():
            unknown.append(index)
    if unknown:
        paths = [records[index]["file_name"] for index in unknown]
        changes.add("image sizes read from the images", printable(paths[0]), len(unknown))
        headers = read_headers(paths, shown, keep_unreadable)
        sizes[unknown] = np.stack(image_sizes(headers, apply_exif), axis=1)
    return sizes[:, 0].copy(), sizes[:, 1].copy()
