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


def to_dataframe(found: "Detections") -> Any:
    """See :meth:`tood_runtime.Detections.to_dataframe`."""
    pandas = import_optional("pandas", "to_dataframe()")
    height, width = found.image_size
    x1, y1, x2, y2 = found.xyxy.T
    columns = {
        "path": [found.path] * len(found),
        "class_id": found.class_id,
        "class_name": found.class_names,
        "confidence": found.confidence,
        "x1": x1,
        "y1": y1,
        "x2": x2,
        "y2": y2,
        "image_width": np.full(len(found), width),
        "image_height": np.full(len(found), height),
    }
    texts = {"path": object, "class_name": object}  # also of a table without rows
    return pandas.DataFrame(columns).astype(texts)


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
