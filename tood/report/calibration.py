"""Whether scores mean what they say: precision by score, and the best threshold.

A detection counts as right if it is a true positive at an IoU of 0.5. Detections in crowd regions
do not count.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..data.dataset import DetectionDataset
from .detections import DetectionRows
from .matching import IGNORED, TRUE_POSITIVE, Matches

NUM_BINS = 10

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Calibration:
    """A reliability diagram.

    Attributes:
        counts: (10,) detections by score, in bins of 0.1; a score of 1 is in the last one.
        mean_scores: (10,) of the detections of each bin; NaN in empty ones.
        precisions: (10,) the part of them that is right; NaN in empty bins.
        error: the expected calibration error (ECE, Naeini et al. 2015): the mean over detections of
            how far mean score and precision of their bin are apart. NaN without detections.
    """

    counts: Ints
    mean_scores: Floats
    precisions: Floats
    error: float


@dataclass(frozen=True)
class OperatingPoint:
    """The score threshold with the best F1, at an IoU of 0.5.

    Attributes:
        threshold: detections with at least this score; NaN if there is nothing to choose from.
        precision: of them.
        recall: of them.
        f1: the harmonic mean of both.
    """

    threshold: float
    precision: float
    recall: float
    f1: float


def calibrate(rows: DetectionRows, matches: Matches) -> Calibration:
    """Compute the reliability diagram of all classes together."""
    counted = matches.status != IGNORED
    scores, is_true = rows.scores[counted], matches.status[counted] == TRUE_POSITIVE
    # As the decimal fractions that a reader sees: 0.3 is in the bin from 0.3 on.
    edges = np.arange(1, NUM_BINS) / NUM_BINS
    bins = np.searchsorted(edges, scores, side="right")
    counts = np.bincount(bins, minlength=NUM_BINS)
    divisor = np.where(counts > 0, counts, np.nan)
    mean_scores = np.bincount(bins, scores, NUM_BINS) / divisor
    precisions = np.bincount(bins, is_true, NUM_BINS) / divisor
    error = float("nan")
    if len(scores):
        error = float(np.nansum(counts * np.abs(mean_scores - precisions)) / len(scores))
    return Calibration(counts, mean_scores, precisions, error)


def best_points(
    dataset: DetectionDataset, rows: DetectionRows, matches: Matches
) -> tuple[OperatingPoint, list[OperatingPoint]]:
    """The best threshold of all classes together, and that of each class (K).

    Where no detection is right, the threshold of all classes together leaves one detection for each
    GT box.
    """
    counted = matches.by_score(rows)
    labels = rows.class_ids[counted]
    scores, is_true = rows.scores[counted], matches.status[counted] == TRUE_POSITIVE
    num_gt = dataset.num_objects_by_class.tolist()
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=len(num_gt)))[:-1]
    groups = zip(np.split(scores[order], ends), np.split(is_true[order], ends), num_gt, strict=True)
    overall = _best(scores, is_true, sum(num_gt))
    if math.isnan(overall.threshold) and len(scores) and sum(num_gt):
        # Nothing is right: one detection for each object shows what is wrong.
        overall = OperatingPoint(float(scores[min(sum(num_gt), len(scores)) - 1]), 0.0, 0.0, 0.0)
    return overall, [_best(*group) for group in groups]


def _best(scores: Floats, is_true: npt.NDArray[np.bool_], num_gt: int) -> OperatingPoint:
    """The best threshold, given the scores in falling order."""
    if not num_gt or not is_true.any():
        return OperatingPoint(*[float("nan")] * 4)
    # A threshold cannot divide equal scores.
    last = np.append(scores[1:] != scores[:-1], True)
    hits, taken = np.cumsum(is_true)[last], np.arange(1, len(scores) + 1)[last]
    f1 = 2 * hits / (taken + num_gt)
    best = int(f1.argmax())
    return OperatingPoint(
        float(scores[last][best]),
        float(hits[best] / taken[best]),
        float(hits[best] / num_gt),
        float(f1[best]),
    )
