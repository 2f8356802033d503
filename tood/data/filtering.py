"""Filters the training set: what cannot be learned from is skipped and counted."""

import logging

import numpy as np
import numpy.typing as npt

from tood_runtime.image_io import printable_path

from ..errors import DataError
from .dataset import MIN_BOX_SIDE, DetectionDataset
from .keypoint_arrays import count_labeled

logger = logging.getLogger(__name__)

# As the reference implementation: its training skips images with a smaller side (pixels).
MIN_IMAGE_SIDE = 32


def filter_training_set(
    dataset: DetectionDataset, filter_empty: bool, min_keypoints: int = 0
) -> DetectionDataset:
    """Skip what cannot be learned from, and log how much that was.

    As in the reference implementation, these are skipped: boxes with a side below 1 pixel, boxes
    outside of their image, images with a side below 32 pixels, and images without ground truth. As
    in detectron2, images with too few keypoints too.

    Args:
        dataset: not changed.
        filter_empty: skip images without usable boxes. Crowds do not count as usable.
        min_keypoints: skip images with fewer labeled keypoints; 0 keeps all.

    Returns:
        The images to train on, each with its usable boxes.

    Raises:
        DataError: no usable box is left.
    """
    counts: dict[str, int] = {}
    large = np.minimum(dataset.heights, dataset.widths) >= MIN_IMAGE_SIDE
    counts[f"images with a side below {MIN_IMAGE_SIDE} pixels"] = int((~large).sum())
    kept = dataset if large.all() else dataset.select_images(large)
    usable = np.ones(kept.num_boxes, bool)
    for what, mask in unusable_boxes(kept).items():
        rows = np.flatnonzero(mask)
        counts[what] = len(rows)
        if len(rows):
            box, image = kept.boxes[rows[0]].tolist(), kept.image_index[rows[0]]
            name = printable_path(kept.file_names[image])
            logger.warning(
                "Training skips %s: %d, for example %s in %s.", what, len(rows), box, name
            )
        usable &= ~mask
    if not usable.all():
        kept = kept.select_boxes(usable)
    if filter_empty:
        has_objects = np.zeros(len(kept), bool)
        has_objects[kept.image_index[~kept.is_crowd]] = True
        only_crowds = int((np.diff(kept.offsets) > 0)[~has_objects].sum())
        note = f", of which {only_crowds} with crowds only" if only_crowds else ""
        counts[f"images without ground truth{note}"] = int((~has_objects).sum())
        if not has_objects.all():
            kept = kept.select_images(has_objects)
    if min_keypoints > 0 and kept.keypoints is not None:
        found = np.bincount(kept.image_index, count_labeled(kept.keypoints), minlength=len(kept))
        counts[f"images with fewer than {min_keypoints} labeled keypoints"] = int(
            (found < min_keypoints).sum()
        )
        kept = kept.select_images(found >= min_keypoints)
    _log_skipped_images(counts)
    if kept.is_crowd.all():  # also without any box
        raise DataError(_describe_nothing_left(dataset, counts))
    return kept


def unusable_boxes(dataset: DetectionDataset) -> dict[str, npt.NDArray[np.bool_]]:
    """Find boxes that cannot be learned from.

    Returns:
        For each reason, which says in the plural what these boxes are, a mask (M,). A box has at
        most one reason.
    """
    small, outside = dataset.is_small, dataset.is_outside
    return {
        f"boxes with a side below {MIN_BOX_SIDE:g} pixel": small,
        "boxes outside of their image": outside & ~small,
    }


def _log_skipped_images(counts: dict[str, int]) -> None:
    for what, count in counts.items():
        if count and what.startswith("images"):
            logger.info("Training skips %s: %d.", what, count)


def _describe_nothing_left(dataset: DetectionDataset, counts: dict[str, int]) -> str:
    skipped = "".join(f" Skipped {what}: {count}." for what, count in counts.items() if count)
    if dataset.num_boxes and dataset.is_crowd.all():
        return (
            f"All {dataset.num_boxes} annotations of the training set {dataset.source} are crowds "
            "(iscrowd 1, or what is read as such), which are not trained on. Annotate single "
            "objects."
        )
    return (
        f"The training set {dataset.source} has {len(dataset)} images but no usable annotation."
        f"{skipped} Correct its annotations."
    )
