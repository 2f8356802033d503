"""Runs a COCO evaluation in memory and summarizes it, for any limit on detections per image."""

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

# COCO's limits on detections per image and class: AR is reported for all three, AP for the last.
STANDARD_LIMITS = (1, 10, 100)
# COCO's limit for keypoints: the number of persons per image that count.
KEYPOINT_LIMIT = 20
# COCO's own upper limit of 1e5 pixels squared would silently leave out larger boxes.
_UNLIMITED_AREA = 1e20


def make_coco(content: dict[str, Any]) -> COCO:
    """Make pycocotools' object of the content of a COCO file, without a file."""
    coco = COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def run_coco_evaluation(
    ground_truth: COCO,
    results: list[dict[str, Any]],
    task: str,
    limit: int = 100,
    image_ids: Sequence[int] | None = None,
    implementation: Callable[..., Any] = COCOeval,
    oks_sigmas: Sequence[float] = (),
) -> Any:
    """Evaluate detections.

    Args:
        ground_truth: with whole numbers above 0 as ids of annotations.
        results: detections in COCO's result format, at least one; not changed.
        task: "bbox", "segm" or "keypoints".
        limit: on the detections per image and class that count. Up to 100, COCO's own limits are
            used: 100, and 20 for keypoints.
        image_ids: evaluate these images only.
        implementation: pycocotools' ``COCOeval``, or a class that is used in the same way.
        oks_sigmas: one for each keypoint.

    Returns:
        The object of ``implementation`` after accumulation, with COCO's 12 numbers (10 for
        keypoints) as ``stats``; -1 where there is no ground truth.
    """
    if task == "segm":  # with a box, pycocotools sorts masks by the area of the box
        results = [{key: x for key, x in result.items() if key != "bbox"} for result in results]
    with contextlib.redirect_stdout(io.StringIO()):
        coco_eval = implementation(ground_truth, ground_truth.loadRes(results), task)
        if image_ids is not None:
            coco_eval.params.imgIds = list(image_ids)
        if limit > STANDARD_LIMITS[-1]:
            coco_eval.params.maxDets = [*coco_eval.params.maxDets[:-1], limit]
        if task == "keypoints":
            coco_eval.params.kpt_oks_sigmas = np.array(oks_sigmas)
        for area_range in coco_eval.params.areaRng:
            if area_range[1] == 1e5**2:
                area_range[1] = _UNLIMITED_AREA
        coco_eval.evaluate()
        coco_eval.accumulate()
    coco_eval.stats = np.array([value for _, value in _summarize(coco_eval)])
    return coco_eval


def format_summary(coco_eval: Any) -> str:
    """Format COCO's numbers as pycocotools prints them."""
    return "\n".join(f" {title} = {value:0.3f}" for title, value in _summarize(coco_eval))


def _summarize(coco_eval: Any) -> list[tuple[str, float]]:
    """COCO's numbers. pycocotools' own ``summarize`` takes AP at 100 detections only."""
    params = coco_eval.params
    limits = sorted(params.maxDets)
    last = len(limits) - 1
    areas = list(enumerate(params.areaRngLbl))[1:]  # without small ones for keypoints
    thresholds = (None, 0.5, 0.75)
    precision = np.asarray(coco_eval.eval["precision"])  # (IoU, recall, class, area, limit)
    recall = np.asarray(coco_eval.eval["recall"])  # (IoU, class, area, limit)
    rows = []
    chosen = [slice(None) if x is None else np.isclose(params.iouThrs, x) for x in thresholds]
    for iou, rows_of in zip(thresholds, chosen, strict=True):
        rows.append((_title("AP", "all", limits[last], iou), precision[rows_of, :, :, 0, last]))
    for area, label in areas:
        rows.append((_title("AP", label, limits[last]), precision[..., area, last]))
    if params.iouType == "keypoints":
        for iou, rows_of in zip(thresholds, chosen, strict=True):
            rows.append((_title("AR", "all", limits[last], iou), recall[rows_of, :, 0, last]))
    else:
        for index, limit in enumerate(limits):
            rows.append((_title("AR", "all", limit), recall[..., 0, index]))
    for area, label in areas:
        rows.append((_title("AR", label, limits[last]), recall[..., area, last]))
    return [(title, _mean(values)) for title, values in rows]


def _title(kind: str, area: str, limit: int, iou: float | None = None) -> str:
    name = {"AP": "Average Precision", "AR": "Average Recall"}[kind]
    thresholds = "0.50:0.95" if iou is None else f"{iou:0.2f}"
    return f"{name:<18} ({kind}) @[ IoU={thresholds:<9} | area={area:>6} | maxDets={limit:>3} ]"


def _mean(values: npt.NDArray[np.float64]) -> float:
    """Mean over what has ground truth; -1 if nothing has."""
    values = values[values > -1]
    return float(values.mean()) if values.size else -1.0
