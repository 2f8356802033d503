"""Matches detections with GT boxes at one IoU, as COCO does, and finds out why others are wrong.

Shapes: **D** detections and **M** GT boxes of a dataset; in functions about one image, of it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pycocotools import mask as mask_utils

from ..data.dataset import DetectionDataset
from .detections import DetectionRows

# TIDE's thresholds t_f and t_b (Bolya et al., ECCV 2020, section 2.2).
FOREGROUND_IOU = 0.5
BACKGROUND_IOU = 0.1

# What a detection is; the values of `Matches.status`.
FALSE_POSITIVE, TRUE_POSITIVE, IGNORED = 0, 1, 2

# Errors of false positives; the values of `Matches.error`.
CLASSIFICATION, LOCALIZATION, BOTH, DUPLICATE, BACKGROUND = range(5)
# The error of GT boxes, which continues these numbers.
MISSED = 5
# All of them, in the order of the paper.
ERROR_TYPES = (CLASSIFICATION, LOCALIZATION, BOTH, DUPLICATE, BACKGROUND, MISSED)

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Matches:
    """What each detection and each GT box is at an IoU of `FOREGROUND_IOU`.

    Attributes:
        status: (D,) int64: `FALSE_POSITIVE`, `TRUE_POSITIVE` or `IGNORED`, in a crowd region.
        gt: (D,) int64: the GT box of a true positive; of a localization or classification error,
            the one that it would be right for; else -1.
        error: (D,) int64: the error of a false positive, else -1.
        gt_found: (M,) bool: GT boxes with a true positive.
        gt_missed: (M,) bool: the others, unless a localization or classification error covers them.
            Crowd regions are neither.
    """

    status: Ints
    gt: Ints
    error: Ints
    gt_found: Bools
    gt_missed: Bools

    def by_score(self, rows: DetectionRows) -> Ints:
        """The detections outside of crowds, by falling score and in COCO's order of equal ones."""
        counted = np.flatnonzero(self.status != IGNORED)
        order: Ints = counted[np.argsort(-rows.scores[counted], kind="stable")]
        return order


def match_detections(dataset: DetectionDataset, rows: DetectionRows) -> Matches:
    """Match all detections of a dataset, image by image.

    Detections match in the order of their scores, each with the GT box of its class that has the
    largest IoU among those left; then with crowd regions of its class, which ignore any number.

    Args:
        dataset: the ground truth, after ``ignore_outside_boxes``.
        rows: the detections that count, after ``DetectionRows.limited``.
    """
    num_rows, num_boxes = len(rows), dataset.num_boxes
    status, error = np.zeros(num_rows, np.int64), np.full(num_rows, -1, np.int64)
    gt = np.full(num_rows, -1, np.int64)
    found, covered = np.zeros(num_boxes, bool), np.zeros(num_boxes, bool)
    offsets = rows.offsets(len(dataset))
    for image in np.flatnonzero(np.diff(offsets)).tolist():
        part = slice(offsets[image], offsets[image + 1])
        boxes = np.arange(dataset.offsets[image], dataset.offsets[image + 1])
        is_crowd = dataset.is_crowd[boxes]
        objects, crowds = boxes[~is_crowd], boxes[is_crowd]
        ious = box_ious(rows.boxes[part], dataset.boxes[objects])
        same = rows.class_ids[part][:, None] == dataset.class_ids[objects][None]  # (D, M)
        matched = _match_objects(ious, same)
        is_ignored = (matched < 0) & _in_crowd(rows, part, dataset, crowds)
        wrong = np.flatnonzero((matched < 0) & ~is_ignored)
        used = np.zeros(len(objects), bool)
        used[matched[matched >= 0]] = True
        kind, target = _explain(ious[wrong], same[wrong], used)
        covered[objects[target[target >= 0]]] = True
        found[objects[used]] = True
        status[part] = np.where(matched >= 0, TRUE_POSITIVE, np.where(is_ignored, IGNORED, 0))
        error[offsets[image] + wrong] = kind
        matched[wrong] = target
        gt[part] = np.where(matched >= 0, np.append(objects, -1)[matched], -1)
    return Matches(status, gt, error, found, ~(found | covered | dataset.is_crowd))


def box_ious(boxes: Floats, others: Floats, is_crowd: bool = False) -> Floats:
    """IoUs (D, M) as pycocotools computes them; of crowds, the part of the box that is in them."""
    if not len(boxes) or not len(others):
        return np.zeros((len(boxes), len(others)))
    ious: Floats = mask_utils.iou(boxes, others, [int(is_crowd)] * len(others))
    return ious


def _match_objects(ious: Floats, same: Bools) -> Ints:
    """The GT box of each detection (D,), the best one first; -1 for none."""
    matched = np.full(len(ious), -1, np.int64)
    possible = np.where(same & (ious >= FOREGROUND_IOU), ious, -1.0)
    for row in np.flatnonzero(possible.max(axis=1, initial=-1) >= 0).tolist():
        best = possible[row].max()
        if best >= 0:
            # Of equal IoUs, the last: pycocotools replaces a match by one that is as good.
            column = int(np.flatnonzero(possible[row] == best)[-1])
            matched[row] = column
            possible[:, column] = -1
    return matched


def _in_crowd(rows: DetectionRows, part: slice, dataset: DetectionDataset, crowds: Ints) -> Bools:
    """Which detections (D,) of an image lie in a crowd region of their class."""
    if not len(crowds):
        return np.zeros(part.stop - part.start, bool)
    ious = box_ious(rows.boxes[part], dataset.boxes[crowds], is_crowd=True)
    same = rows.class_ids[part][:, None] == dataset.class_ids[crowds][None]
    inside: Bools = (same & (ious >= FOREGROUND_IOU)).any(axis=1)
    return inside


def _explain(ious: Floats, same: Bools, used: Bools) -> tuple[Ints, Ints]:
    """TIDE's errors of the false positives (D,) of an image, in the order of TIDE's own code.

    Returns:
        The error, and the GT box (M indices) of localization and classification errors, else -1.
    """
    target = np.full(len(ious), -1, np.int64)
    if not ious.size:
        return np.full(len(ious), BACKGROUND, np.int64), target
    of_class, of_others = ious * same, ious * ~same
    best = of_class.max(axis=1)
    is_localization = (best >= BACKGROUND_IOU) & (best <= FOREGROUND_IOU)
    is_classification = of_others.max(axis=1) >= FOREGROUND_IOU
    is_duplicate = (of_class * used).max(axis=1) >= FOREGROUND_IOU
    is_background = ious.max(axis=1) <= BACKGROUND_IOU
    error = np.select(
        [is_localization, is_classification, is_duplicate, is_background],
        [LOCALIZATION, CLASSIFICATION, DUPLICATE, BACKGROUND],
        BOTH,
    )
    target[error == LOCALIZATION] = of_class.argmax(axis=1)[error == LOCALIZATION]
    target[error == CLASSIFICATION] = of_others.argmax(axis=1)[error == CLASSIFICATION]
    return error.astype(np.int64), target
