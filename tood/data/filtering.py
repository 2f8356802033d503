"""Filters the training set: what cannot be learned from is skipped and counted."""

import logging
import math
from collections import Counter
from typing import Any

from detectron2.structures import BoxMode

from ..errors import DataError

logger = logging.getLogger(__name__)

# As the reference implementation: its training skips boxes and images with a smaller side (pixels).
MIN_BOX_SIDE = 1.0
MIN_IMAGE_SIDE = 32


def filter_training_dicts(dicts: list[dict[str, Any]], filter_empty: bool) -> list[dict[str, Any]]:
    """Skip what cannot be learned from, and log how much that was.

    As in the reference implementation, these are skipped: boxes with a side below 1 pixel (negative
    sides included), boxes outside of their image, images with a side below 32 pixels, and images
    without ground truth. Boxes with non-finite values are skipped too.

    Args:
        dicts: detectron2's dataset dicts; not changed.
        filter_empty: skip images without usable annotations. Crowd regions do not count as usable.

    Returns:
        The images to train on, each with its usable annotations.

    Raises:
        DataError: no usable annotation is left.
    """
    skipped: Counter[str] = Counter()
    examples: dict[str, str] = {}
    kept = []
    for record in dicts:
        height, width = record.get("height", math.inf), record.get("width", math.inf)
        if min(height, width) < MIN_IMAGE_SIDE:
            skipped[f"images with a side below {MIN_IMAGE_SIDE} pixels"] += 1
            continue
        annotations = []
        for annotation in record.get("annotations", ()):
            reason = unusable_reason(annotation, height, width)
            if reason is None:
                annotations.append(annotation)
            else:
                skipped[reason] += 1
                examples.setdefault(reason, f"{annotation['bbox']} in {record['file_name']}")
        if filter_empty and all(annotation.get("iscrowd", 0) for annotation in annotations):
            skipped["images without ground truth"] += 1
            continue
        kept.append({**record, "annotations": annotations})
    _log_skipped(skipped, examples)
    if not any(record["annotations"] for record in kept):
        counts = "".join(f" Skipped {what}: {count}." for what, count in skipped.items())
        raise DataError(
            f"The training set has {len(dicts)} images but no usable annotation.{counts} "
            "Correct its annotations."
        )
    return kept


def unusable_reason(annotation: dict[str, Any], height: float, width: float) -> str | None:
    """Say why a box cannot be learned from.

    Args:
        annotation: of a detectron2 dataset dict.
        height: of the image, in pixels.
        width: of the image, in pixels.

    Returns:
        What such boxes are, in the plural; None for a usable box.
    """
    box = [float(value) for value in annotation["bbox"]]
    x1, y1, x2, y2 = BoxMode.convert(box, annotation["bbox_mode"], BoxMode.XYXY_ABS)
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        return "boxes with non-finite values"
    if x2 - x1 < MIN_BOX_SIDE or y2 - y1 < MIN_BOX_SIDE:
        return f"boxes with a side below {MIN_BOX_SIDE:g} pixel"
    if min(x2, width) <= max(x1, 0) or min(y2, height) <= max(y1, 0):
        return "boxes outside of their image"
    return None


def _log_skipped(skipped: Counter[str], examples: dict[str, str]) -> None:
    """Warn about skipped boxes, which are errors in the data; mention skipped images."""
    for what, count in skipped.items():
        if what in examples:
            logger.warning("Training skips %s: %d, for example %s.", what, count, examples[what])
        else:
            logger.info("Training skips %s: %d.", what, count)
