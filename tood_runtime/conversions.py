"""Detections of an image in the forms that other programs take."""

from typing import TYPE_CHECKING, Any

import numpy as np

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
    return {"instances": instances}


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


def table_rows(found: "Detections", path: str | None) -> dict[str, list[Any]]:
    """The columns of a table of detections, one row each; None where there is no value.

    Args:
        found: the detections of an image.
        path: what to call it.
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
    assert list(columns) == list(TABLE_COLUMNS)
    return columns


def to_dataframe(found: "Detections") -> Any:
    """See :meth:`tood_runtime.Detections.to_dataframe`."""
    pandas = import_optional("pandas", "to_dataframe()")
    # Types that hold None, also of a table without rows.
    types = {"string": object, "int64": "int64", "float32": "float32"}
    optional = {"frame": "Int64", "time": "Float64", "tracker_id": "Int64"}
    kinds = {name: types.get(kind) for name, kind in TABLE_COLUMNS.items()} | optional
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
