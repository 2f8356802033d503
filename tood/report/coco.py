"""COCO's numbers for the report: those of ``FastCOCOEvaluator``, by class and size, with curves."""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pycocotools.cocoeval import COCOeval

from ..data.dataset import DetectionDataset
from ..evaluation import coco_evaluator
from ..evaluation.coco_metrics import STANDARD_LIMITS, make_coco, run_coco_evaluation
from .detections import DetectionRows

Floats = npt.NDArray[np.float64]

# The numbers of a table's columns, as detectron2 names them.
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


@dataclass(frozen=True)
class COCONumbers:
    """AP of a dataset with K classes, in percent; NaN where there is no ground truth.

    Attributes:
        overall: by the names of `METRICS`.
        recall: COCO's AR at the largest number of detections, over all sizes.
        by_class: (K, 6), in the order of `METRICS`.
        curves: (10, 101, K) precision at IoUs of 0.5 to 0.95 and recalls of 0 to 1; NaN for classes
            without ground truth.
    """

    overall: dict[str, float]
    recall: float
    by_class: Floats
    curves: Floats


def compute_coco(dataset: DetectionDataset, rows: DetectionRows, limit: int) -> COCONumbers:
    """Evaluate detections as ``FastCOCOEvaluator`` does.

    Args:
        dataset: the ground truth, after ``ignore_outside_boxes``.
        rows: all detections.
        limit: the evaluator's ``max_dets_per_image``; see `effective_limit`.
    """
    num_classes = len(dataset.class_names)
    if not len(rows):  # pycocotools cannot load them; the evaluator's numbers are NaN too
        nothing = np.full((num_classes, len(METRICS)), np.nan)
        curves = np.full((10, 101, num_classes), np.nan)
        return COCONumbers(dict.fromkeys(METRICS, float("nan")), float("nan"), nothing, curves)
    implementation = COCOeval
    if coco_evaluator.COCOeval_faster is not None:
        implementation = functools.partial(
            coco_evaluator.COCOeval_faster, print_function=lambda *_: None
        )
    coco_eval = run_coco_evaluation(
        make_coco(dataset.to_coco()), rows.to_coco(), "bbox", limit, implementation=implementation
    )
    # (IoU, recall, class, area, limit); -1 where there is no ground truth
    precision = np.asarray(coco_eval.eval["precision"])[..., -1]
    precision = np.where(precision > -1, precision, np.nan)
    columns = [
        precision[..., 0],
        precision[:1, ..., 0],
        precision[5:6, ..., 0],
        *(precision[..., area] for area in (1, 2, 3)),
    ]
    stats = [100 * float(value) if value > -1 else float("nan") for value in coco_eval.stats]
    return COCONumbers(
        overall=dict(zip(METRICS, stats, strict=False)),
        recall=stats[8],
        by_class=np.stack([100 * _mean_by_class(column) for column in columns], axis=1),
        curves=precision[..., 0],
    )


def _mean_by_class(precision: Floats) -> Floats:
    """Mean (K,) over IoUs and recalls of (IoU, recall, K); all are NaN, or none is."""
    means: Floats = precision.mean(axis=(0, 1))
    return means


def effective_limit(max_dets_per_image: int, rows: DetectionRows) -> int:
    """Detections per image and class that count, as in ``FastCOCOEvaluator``.

    Args:
        max_dets_per_image: ``TEST.DETECTIONS_PER_IMAGE``; negative for all.
        rows: all detections.
    """
    if max_dets_per_image >= 0:
        return max(max_dets_per_image, STANDARD_LIMITS[-1])
    largest = int(np.bincount(rows.image_index).max()) if len(rows) else 0
    return max(largest, STANDARD_LIMITS[-1])
