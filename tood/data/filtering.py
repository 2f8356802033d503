"""What training leaves out of a dataset, and how it says so."""

import logging
import math
from collections import Counter
from typing import Any

from detectron2.structures import BoxMode

from ..errors import DataError

logger = logging.getLogger(__name__)

# The reference's training leaves out boxes with a side below 1 pixel, and images with one below 32.
MIN_BOX_SIDE = 1.0
MIN_IMAGE_SIDE = 32


def filter_training_dicts(dicts: list[dict[str, Any]], filter_empty: bool) -> list[dict[str, Any]]:
    """Leave out what cannot be learned from, and say how much that was.

    As the reference does: boxes with a side below 1 pixel (also negative or not a number) or wholly
    outside of the image, images with a side below 32 pixels, and images without ground truth.

    Args:
        dicts: detectron2's dataset dicts; not changed.
        filter_empty: leave out images without usable annotations.

    Raises:
        DataError: nothing is left to learn from.
    """
    dropped: Counter[str] = Counter()
    examples: dict[str, str] = {}
    kept = []
    for record in dicts:
        height, width = record.get("height", math.inf), record.get("width", math.inf)
        if min(height, width) < MIN_IMAGE_SIDE:
            dropped[f"images with a side below {MIN_IMAGE_SIDE} pixels"] += 1
            continue
        annotations = []
        for annotation in record.get("annotations", ()):
            reason = unusable_reason(annotation, height, width)
            if reason:
                dropped[reason] += 1
                examples.setdefault(reason, f"{annotation['bbox']} in {record['file_name']}")
            else:
                annotations.append(annotation)
        if filter_empty and all(annotation.get("iscrowd", 0) for annotation in annotations):
            dropped["images without ground truth"] += 1
            continue
        kept.append({**record, "annotations": annotations})
    for reason, count in dropped.items():
        level = logging.WARNING if reason in examples else logging.INFO
        example = f", for example {examples[reason]}" if reason in examples else ""
        logger.log(level, "Training leaves out %d %s%s.", count, reason, example)
    if not any(record["annotations"] for record in kept):
        raise DataError(
            f"the training set has {len(dicts)} images and not one usable annotation"
            + "".join(f"; left out: {count} {reason}" for reason, count in dropped.items())
        )
    return kept


def unusable_reason(annotation: dict[str, Any], height: float, width: float) -> str:
    """Why a box cannot be learned from; empty if it can."""
    box = [float(value) for value in annotation["bbox"]]
    x1, y1, x2, y2 = BoxMode.convert(box, annotation["bbox_mode"], BoxMode.XYXY_ABS)
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        return "boxes that are not numbers"
    if x2 - x1 < MIN_BOX_SIDE or y2 - y1 < MIN_BOX_SIDE:
        return f"boxes with a side below {MIN_BOX_SIDE:g} pixel"
    if min(x2, width) <= max(x1, 0) or min(y2, height) <= max(y1, 0):
        return "boxes wholly outside of their image"
    return ""
