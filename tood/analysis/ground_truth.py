"""The GT boxes that alignment is measured against, from the records of a dataset."""

from typing import Any

import torch
from detectron2.structures import BoxMode
from torch import Tensor


def read_ground_truth(record: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """GT boxes of a record in detectron2's dataset format, without crowd regions.

    Returns:
        Boxes (M, 4), x1, y1, x2, y2 in pixels of the image, and class indices (M,) int64.
    """
    objects = [x for x in record.get("annotations", ()) if not x.get("iscrowd", 0)]
    boxes = [BoxMode.convert(x["bbox"], x["bbox_mode"], BoxMode.XYXY_ABS) for x in objects]
    classes = torch.tensor([x["category_id"] for x in objects], dtype=torch.int64)
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), classes
