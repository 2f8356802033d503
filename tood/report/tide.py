"""Error types by TIDE's definition, and what AP would gain if each were fixed.

Source: Bolya, Foley, Hays, Hoffman: TIDE: A General Toolbox for Identifying Object Detection
Errors, ECCV 2020. The definitions are those of the paper's own program. What counts follows COCO:
detections in crowd regions are no errors, AP is the mean over the classes that have GT boxes, and
the limit on detections is per image and class, so that the AP to begin with is COCO's AP50.
"""

import functools
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..data.dataset import DetectionDataset
from .detections import DetectionRows
from .matching import (
    CLASSIFICATION,
    ERROR_TYPES,
    LOCALIZATION,
    MISSED,
    TRUE_POSITIVE,
    Matches,
)

# COCO's recalls, bit for bit.
_RECALLS = np.linspace(0.0, 1.0, 101)

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ErrorSummary:
    """TIDE's errors of a dataset.

    Attributes:
        ap50: AP at an IoU of 0.5 in percent, as COCO's; NaN where nothing has GT boxes.
        counts: of each error, by its number.
        gains: the points of AP50 that fixing all errors of a type alone would add (TIDE's dAP), at
            least 0; NaN where no class is left to evaluate.
        false_positive_gain: without false positives, at the same recall.
        false_negative_gain: without false negatives, at the same precision.
    """

    ap50: float
    counts: dict[int, int]
    gains: dict[int, float]
    false_positive_gain: float
    false_negative_gain: float


def summarize_errors(
    dataset: DetectionDataset, rows: DetectionRows, matches: Matches
) -> ErrorSummary:
    """Count the errors and compute what each costs.

    Args:
        dataset: the ground truth that was matched.
        rows: the detections that were matched.
        matches: what `match_detections` returned for both.
    """
    order, num_gt = matches.by_score(rows), dataset.num_objects_by_class
    is_true = matches.status[order] == TRUE_POSITIVE
    points = _Points(rows.class_ids[order], is_true, num_gt, num_gt > 0)
    ap50 = points.mean_ap()
    counts = {kind: int((matches.error == kind).sum()) for kind in ERROR_TYPES}
    counts[MISSED] = int(matches.gt_missed.sum())
    fix = functools.partial(_fix, points, dataset, matches, order, _corrections(matches)[order])
    gains = {kind: _gain(fix(kind), ap50) for kind in ERROR_TYPES}
    perfect = replace(points, class_ids=points.class_ids[is_true], is_true=is_true[is_true])
    false_negatives = ~matches.gt_found & ~dataset.is_crowd
    missing = np.bincount(dataset.class_ids[false_negatives], minlength=len(num_gt))
    complete = replace(points, num_gt=num_gt - missing).mean_ap()
    return ErrorSummary(
        ap50, counts, gains, perfect.mean_ap() - ap50, complete - ap50 if ap50 == ap50 else ap50
    )


def _gain(points: "_Points", before: float) -> float:
    after = points.mean_ap()
    return after if after != after else max(after - before, 0.0)


@dataclass(frozen=True)
class _Points:
    """Detections by falling score, of which AP is computed.

    Attributes:
        class_ids: (P,).
        is_true: (P,) true positives.
        num_gt: (K,) GT boxes of each class.
        was_evaluated: (K,) classes that had GT boxes before anything was fixed.
    """

    class_ids: Ints
    is_true: Bools
    num_gt: Ints
    was_evaluated: Bools

    def mean_ap(self) -> float:
        """Mean AP in percent over the classes with GT boxes; NaN without any.

        A class that fixing has left without GT boxes has an AP of 0 while it has detections, as in
        TIDE's program.
        """
        counts = np.bincount(self.class_ids, minlength=len(self.num_gt))
        order = np.argsort(self.class_ids, kind="stable")
        by_class = np.split(self.is_true[order], np.cumsum(counts)[:-1])
        values = [
            average_precision(by_class[index], int(self.num_gt[index]))
            for index in np.flatnonzero(self.was_evaluated)
            if self.num_gt[index] or counts[index]
        ]
        return 100 * float(np.mean(values)) if values else float("nan")


def _fix(
    points: _Points,
    dataset: DetectionDataset,
    matches: Matches,
    order: Ints,
    can_be_corrected: Bools,
    kind: int,
) -> _Points:
    """Fix an error: what can be corrected becomes right, all else of the type is left out.

    Args:
        points: before.
        dataset: the ground truth.
        matches: of the detections.
        order: (P,) which detection each point is.
        can_be_corrected: (P,), of classification and localization errors.
        kind: the error.
    """
    num_gt = points.num_gt
    if kind == MISSED:
        missed = np.bincount(dataset.class_ids[matches.gt_missed], minlength=len(num_gt))
        return replace(points, num_gt=num_gt - missed)
    class_ids, is_true = points.class_ids.copy(), points.is_true.copy()
    is_error = matches.error[order] == kind
    corrected = can_be_corrected & is_error
    is_true[corrected] = True
    if kind == CLASSIFICATION:
        class_ids[corrected] = dataset.class_ids[matches.gt[order[corrected]]]
    kept = ~is_error | corrected
    return replace(points, class_ids=class_ids[kept], is_true=is_true[kept])


def _corrections(matches: Matches) -> Bools:
    """Which detections (D,) are right once their error is fixed.

    Several errors may name one GT box: the detection with the highest score gets it, and none does
    if the GT box has a true positive already.
    """
    possible = np.flatnonzero(
        ((matches.error == CLASSIFICATION) | (matches.error == LOCALIZATION))
        & ~np.append(matches.gt_found, True)[matches.gt]
    )
    # Rows of an image are sorted by score, so the first is the best.
    _, first = np.unique(matches.gt[possible], return_index=True)
    corrected = np.zeros(len(matches.error), bool)
    corrected[possible[first]] = True
    return corrected


def average_precision(is_true: Bools, num_gt: int) -> float:
    """COCO's AP of one class at one IoU.

    Args:
        is_true: (P,) which detections are true positives, by falling score.
        num_gt: GT boxes of the class.

    Returns:
        From 0 to 1: the mean of the interpolated precision at 101 recalls; 0 without GT boxes.
    """
    if not num_gt or not len(is_true):
        return 0.0
    true_positives = np.cumsum(is_true)
    recall = true_positives / num_gt
    precision = true_positives / (np.arange(1, len(is_true) + 1) + np.spacing(1))
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    index = np.searchsorted(recall, _RECALLS, side="left")
    return float(np.append(precision, 0.0)[index].mean())
