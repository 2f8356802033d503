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

from ..analysis.alignment import (
    alignment_per_instance,
    classify_detections,
)
from ..analysis.recorder import PredictionRecorder
from ..errors import DataError
from ..modeling.structures import ImagePredictions

logger = logging.getLogger(__name__)


class AlignmentEvaluator(DatasetEvaluator):
    """The columns of the paper's Table 6 (section 4.3), for TOOD and detectron2's RetinaNet.

    Runs in the same pass as ``COCOEvaluator`` (detectron2's ``DatasetEvaluators``), and adds up
    over processes. :func:`alignment_per_instance` and :func:`classify_detections` define the numbers; the
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
            dense = _in_image(self.recorder.for_image(index), x)
            self.add(dense, output["instances"].to("cpu"), gt_boxes, gt_classes)

    def add(
        self,
        dense: ImagePredictions,
        detections: Instances,
        gt_boxes: Tensor,
        gt_classes: Tensor,
    ) -> None:
        """Add an image: everything on the CPU, boxes in one unit."""
        for correlation, overlap in alignment_per_instance(*dense, gt_boxes, gt_classes):
            self._sums["instances"] += 1
            self._sums["overlap"] += overlap
            if correlation is not None:
                self._sums["ranked instances"] += 1
                self._sums["correlation"] += correlation
        boxes, classes = detections.pred_boxes.tensor, detections.pred_classes
        self._sums.update(classify_detections(boxes, classes, gt_boxes, gt_classes))

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


def _in_image(dense: ImagePredictions, x: dict) -> ImagePredictions:
    """The predictions on the CPU, with boxes in pixels of the image as it was read, clipped."""
    height, width = x["image"].shape[-2:]
    boxes = Boxes(dense.boxes.float().cpu().clone())
    boxes.scale(x.get("width", width) / width, x.get("height", height) / height)
    boxes.clip((x.get("height", height), x.get("width", width)))
    return ImagePredictions(dense.scores.float().cpu(), boxes.tensor)
