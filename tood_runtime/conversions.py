"""Detections of an image in the forms that other programs take."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .masks import Masks
from .missing_packages import import_optional

if TYPE_CHECKING:
    from .detections import Detections


def to_supervision(found: "Detections") -> Any:
    """See :meth:`tood_runtime.Detections.to_supervision`."""
    supervision = import_optional("supervision", "to_supervision()")
    return supervision.Detections(
        xyxy=found.xyxy.copy(),
        confidence=found.confidence.copy(),
        class_id=found.class_id.copy(),
        tracker_id=None if found.tracker_id is None else found.tracker_id.copy(),
        mask=None if found.mask is None else found.mask.to_array(),
        data={"class_name": np.array(found.class_names, dtype=str)},
    )


def to_instances(found: "Detections") -> dict[str, Any]:
    """See :meth:`tood_runtime.Detections.to_instances`."""
    torch = import_optional("torch", "to_instances()")
    structures = import_optional("detectron2.structures", "to_instances()")
    instances = structures.Instances(found.image_size)
    instances.pred_boxes = structures.Boxes(torch.from_numpy(found.xyxy.copy()))
    instances.scores = torch.from_numpy(found.confidence.copy())
    instances.pred_classes = torch.from_numpy(found.class_id.copy())
    if found.mask is not None:
        instances.pred_masks = torch.from_numpy(found.mask.to_array())
    return {"instances": instances}


def to_coco(
    found: "Detections", image_id: int | str, category_ids: Sequence[int | str]
) -> list[dict[str, Any]]:
    """See :meth:`tood_runtime.Detections.to_coco`."""
    boxes = found.xyxy.copy()
    boxes[:, 2:] -= boxes[:, :2]
    columns = boxes.tolist(), found.confidence.tolist(), found.class_id.tolist()
    results = [
        {
            "image_id": image_id,
            "category_id": category_ids[class_id],
            "bbox": [round(value, 3) for value in box],
            "score": round(score, 6),
        }
        for box, score, class_id in zip(*columns, strict=True)
    ]
    if found.mask is not None:
        for result, segmentation in zip(results, found.mask.to_coco(), strict=True):
            result["segmentation"] = segmentation
    return results


#: Columns of tables of detections, and PyArrow's names of their types. frame and time are those of
#: videos, tracker_id is that of a tracker; the last six are pixels.
TABLE_COLUMNS = {
    "path": "string",
    "frame": "int64",
    "time": "float64",
    "tracker_id": "int64",
    "class_id": "int64",
    "class_name": "string",
    "confidence": "float32",
    **dict.fromkeys(("x1", "y1", "x2", "y2"), "float32"),
    **dict.fromkeys(("image_width", "image_height"), "int64"),
}

#: The column that masks add: COCO's RLE as the text of a JSON object.
MASK_COLUMN = {"segmentation": "string"}


def table_columns(with_masks: bool) -> dict[str, str]:
    """The columns of a table of detections with or without masks, and PyArrow's types."""
    return TABLE_COLUMNS | MASK_COLUMN if with_masks else TABLE_COLUMNS


def table_rows(found: "Detections", path: str | None) -> dict[str, list[Any]]:
    """The columns of a table of detections, one row each; None where there is no value.

    Args:
        found: the detections of an image.
        path: what to call it.

    Raises:
        ImportError: pycocotools is not installed, and there are masks.
    """
    count = len(found)
    height, width = found.image_size
    numbers = found.tracker_id
    columns = {
        "path": [path] * count,
        "frame": [found.frame] * count,
        "time": [found.time] * count,
        "tracker_id": [None] * count if numbers is None else numbers.tolist(),
        "class_id": found.class_id.tolist(),
        "class_name": list(found.class_names),
        "confidence": found.confidence.tolist(),
        **dict(zip(("x1", "y1", "x2", "y2"), found.xyxy.T.tolist(), strict=True)),
        "image_width": [width] * count,
        "image_height": [height] * count,
    }
    if found.mask is not None:
        columns["segmentation"] = segmentation_texts(found.mask)
    assert list(columns) == list(table_columns(found.mask is not None))
    return columns


def segmentation_texts(masks: Masks) -> list[str]:
    """COCO's RLE of masks, for tables: the texts of JSON objects.

    Raises:
        ImportError: pycocotools is not installed.
    """
    return [json.dumps(rle, separators=(",", ":")) for rle in masks.to_coco()]


def to_dataframe(found: "Detections") -> Any:
    """See :meth:`tood_runtime.Detections.to_dataframe`."""
    pandas = import_optional("pandas", "to_dataframe()")
    # Types that hold None, also of a table without rows.
    types = {"string": object, "int64": "int64", "float32": "float32"}
    optional = {"frame": "Int64", "time": "Float64", "tracker_id": "Int64"}
    columns = table_columns(found.mask is not None)
    kinds = {name: types.get(kind) for name, kind in columns.items()} | optional
    return pandas.DataFrame(table_rows(found, found.path)).astype(kinds)


def to_yolo(found: "Detections", confidence: bool = True) -> str:
    """See :meth:`tood_runtime.Detections.to_yolo`."""
    height, width = found.image_size
    corners = found.xyxy.astype(np.float64) / (width, height, width, height)
    corners = corners.clip(0, 1)  # boxes of other sources may reach out of the image
    low, high = corners[:, :2], corners[:, 2:]
    rows = np.concatenate([(low + high) / 2, high - low], axis=1)
    if confidence:
        rows = np.concatenate([rows, found.confidence[:, None]], axis=1)
    return "".join(
        f"{class_id} {' '.join(f'{value:.6f}' for value in row)}\n"
        for class_id, row in zip(found.class_id, rows, strict=True)
    )
