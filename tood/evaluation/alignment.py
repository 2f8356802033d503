"""How well the two tasks of a detector agree: the columns of the paper's Table 6.

Shapes: **R** points, **M** instances (ground truths) of one image, **K** classes, **D** detections.
Boxes (x1, y1, x2, y2) in one unit.
"""

import json
import logging
from collections import Counter
from pathlib import Path

import torch
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils import comm
from torch import Tensor, nn

from ..errors import DataError
from ..modeling.box_ops import box_iou
from .dense import DensePredictions, PredictionRecorder

logger = logging.getLogger(__name__)

# A box that overlaps an instance by more than this is about it, well or badly.
MIN_OVERLAP = 0.1
# From this overlap on a box is right.
RIGHT_OVERLAP = 0.5
# Confident predictions that are looked at for the correlation, and for the mean overlap.
TOP_CORRELATION, TOP_OVERLAP = 50, 10


def rankings(values: Tensor) -> Tensor:
    """(n,) rank of each of the values (n,), from 0; equal ones share the mean of their ranks."""
    below = (values[None] < values[:, None]).sum(1)
    equal = (values[None] == values[:, None]).sum(1)
    return below + (equal - 1) / 2


def rank_correlation(first: Tensor, second: Tensor) -> float | None:
    """Pearson correlation of two rankings.

    Args:
        first: (n,) values.
        second: (n,) values.

    Returns:
        In [-1, 1]; None where a ranking has no two different places.
    """
    pair = torch.stack([rankings(first), rankings(second)]).double()
    pair = pair - pair.mean(1, keepdim=True)
    spread = pair.square().sum(1).prod().sqrt()
    return (pair[0] * pair[1]).sum().div(spread).item() if spread > 0 else None


def instance_statistics(
    pred_scores: Tensor, pred_boxes: Tensor, gt_boxes: Tensor, gt_classes: Tensor
) -> list[tuple[float | None, float]]:
    """Correlation and overlap of the confident predictions for each instance, before suppression.

    The predictions for an instance are those whose box overlaps it by an IoU above 0.1, and no
    other instance of its class by more. They are ordered by their score for its class.

    Args:
        pred_scores: (R, K).
        pred_boxes: (R, 4).
        gt_boxes: (M, 4).
        gt_classes: (M,) int64.

    Returns:
        For each instance the Pearson correlation between the rankings of score and IoU among the 50
        most confident predictions, None where it is not defined (fewer than two, or all alike), and
        the mean IoU of the 10 most confident ones, 0 where there is none.
    """
    results: list[tuple[float | None, float]] = [(None, 0.0)] * len(gt_boxes)
    for category in gt_classes.unique().tolist():
        instances = (gt_classes == category).nonzero().squeeze(1)
        ious = box_iou(gt_boxes[instances][:, None], pred_boxes)
        most, owner = ious.max(0)
        for row, instance in enumerate(instances.tolist()):
            own = ((owner == row) & (most > MIN_OVERLAP)).nonzero().squeeze(1)
            scores = pred_scores[own, category]
            scores, order = scores.topk(min(TOP_CORRELATION, len(own)))
            overlaps = most[own[order]]
            if len(own):
                correlation = rank_correlation(scores, overlaps)
                results[instance] = correlation, overlaps[:TOP_OVERLAP].mean().item()
    return results


def count_detections(
    boxes: Tensor, classes: Tensor, gt_boxes: Tensor, gt_classes: Tensor
) -> dict[str, int]:
    """Count the detections that are left after the suppression, by what they are worth.

    A detection is about the instance of its class that it overlaps most.

    Args:
        boxes: (D, 4).
        classes: (D,) int64.
        gt_boxes: (M, 4).
        gt_classes: (M,) int64.

    Returns:
        "correct": the best detection of each instance, if its IoU is 0.5 or more; "redundant": the
        others of 0.5 or more; "error": those above 0.1 and below 0.5.
    """
    same = classes[:, None] == gt_classes
    ious = torch.where(same, box_iou(boxes[:, None], gt_boxes), 0.0)
    if ious.numel() == 0:
        return {"correct": 0, "redundant": 0, "error": 0}
    most, instance = ious.max(1)
    right = most >= RIGHT_OVERLAP
    correct = len(instance[right].unique())
    return {
        "correct": correct,
        "redundant": int(right.sum()) - correct,
        "error": int(((most > MIN_OVERLAP) & ~right).sum()),
    }


class AlignmentEvaluator(DatasetEvaluator):
    """The columns of the paper's Table 6 (section 4.3), for TOOD and detectron2's RetinaNet.

    Runs in the same pass as ``COCOEvaluator`` (detectron2's ``DatasetEvaluators``), and adds up
    over processes. :func:`instance_statistics` and :func:`count_detections` define the numbers; the
    paper leaves open which predictions are an instance's, and what counts where there is none.
    Crowd regions are left out. Boxes are clipped to the image, as detections are.

    Args:
        dataset_name: of a registered dataset, whose records have annotations.
        model: whose dense predictions are looked at while it runs.
        output_dir: where ``alignment.json`` is written; None for nowhere.
    """

    def __init__(self, dataset_name: str, model: nn.Module, output_dir: str | None = None) -> None:
        self.recorder = PredictionRecorder(model)
        self.output_dir = output_dir
        self._truth = {x["image_id"]: _ground_truth(x) for x in DatasetCatalog.get(dataset_name)}
        self._sums: Counter[str] = Counter()

    def reset(self) -> None:
        """Start anew, and listen to the model."""
        self._sums = Counter()
        self.recorder.start()

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Add a batch; see detectron2.

        Raises:
            DataError: an image is not in the dataset.
        """
        for index, (x, output) in enumerate(zip(inputs, outputs, strict=True)):
            if x.get("image_id") not in self._truth:
                raise DataError(f"image {x.get('image_id')} is not in the dataset of the evaluator")
            gt_boxes, gt_classes = self._truth[x["image_id"]]
            dense = _in_image(self.recorder.of_image(index), x)
            self.add(dense, output["instances"].to("cpu"), gt_boxes, gt_classes)

    def add(
        self,
        dense: DensePredictions,
        detections: Instances,
        gt_boxes: Tensor,
        gt_classes: Tensor,
    ) -> None:
        """Add an image: everything on the CPU, boxes in one unit."""
        for correlation, overlap in instance_statistics(*dense, gt_boxes, gt_classes):
            self._sums["instances"] += 1
            self._sums["overlap"] += overlap
            if correlation is not None:
                self._sums["ranked instances"] += 1
                self._sums["correlation"] += correlation
        boxes, classes = detections.pred_boxes.tensor, detections.pred_classes
        self._sums.update(count_detections(boxes, classes, gt_boxes, gt_classes))

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """Means and counts over all processes; None in those that are not the first.

        Returns:
            ``{"alignment": {...}}`` with "PCC" and "IoU-top10", means over the instances (for PCC
            those where it is defined; NaN without any), "correct", "redundant" and "error" boxes,
            and the number of "instances".
        """
        self.recorder.stop()
        sums = Counter()
        for part in comm.gather(self._sums):
            sums.update(part)
        if not comm.is_main_process():
            return None
        result = {
            "PCC": _mean(sums["correlation"], sums["ranked instances"]),
            "IoU-top10": _mean(sums["overlap"], sums["instances"]),
            **{key: float(sums[key]) for key in ("correct", "redundant", "error", "instances")},
        }
        if self.output_dir is not None:
            Path(self.output_dir).mkdir(parents=True, exist_ok=True)
            Path(self.output_dir, "alignment.json").write_text(json.dumps(result))
        logger.info("Alignment: %s", ", ".join(f"{k} {v:.4g}" for k, v in result.items()))
        return {"alignment": result}


def _mean(total: float, count: int) -> float:
    return total / count if count else float("nan")


def _ground_truth(record: dict) -> tuple[Tensor, Tensor]:
    """Boxes (M, 4), x1, y1, x2, y2 in pixels, and classes (M,) of a record of detectron2's."""
    found = [x for x in record.get("annotations", ()) if not x.get("iscrowd", 0)]
    boxes = [BoxMode.convert(x["bbox"], x["bbox_mode"], BoxMode.XYXY_ABS) for x in found]
    classes = torch.tensor([x["category_id"] for x in found], dtype=torch.int64)
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), classes


def _in_image(dense: DensePredictions, x: dict) -> DensePredictions:
    """The predictions on the CPU, with boxes in pixels of the image as it was read, clipped."""
    height, width = x["image"].shape[-2:]
    boxes = Boxes(dense.boxes.float().cpu().clone())
    boxes.scale(x.get("width", width) / width, x.get("height", height) / height)
    boxes.clip((x.get("height", height), x.get("width", width)))
    return DensePredictions(dense.scores.float().cpu(), boxes.tensor)
