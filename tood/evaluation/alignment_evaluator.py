"""Measures how well classification and localization agree, while a dataset is evaluated.

Shapes: **R** points, **M** ground truths of one image, **K** classes. Boxes are (x1, y1, x2, y2).
"""

import json
import logging
from collections import defaultdict
from pathlib import Path
from typing import Any

from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm
from torch import Tensor, nn

from ..analysis.alignment import alignment_per_instance, classify_detections
from ..analysis.ground_truth import read_ground_truth
from ..analysis.recorder import PredictionRecorder
from ..checkpoint.saving import make_folder, write_text
from ..data.registration import load_dataset
from ..errors import CheckpointError, DataError
from ..modeling.structures import ImagePredictions

logger = logging.getLogger(__name__)


class AlignmentEvaluator(DatasetEvaluator):
    """Computes the columns of the paper's Table 6 (section 4.3), for TOOD and RetinaNet.

    Runs in the same pass as a ``COCOEvaluator`` (combine them with ``DatasetEvaluators``), on any
    number of processes. `tood.analysis.alignment.alignment_per_instance` and
    `tood.analysis.alignment.classify_detections` define the numbers, because the paper does
    not say which predictions belong to an instance and what counts when there is none. Crowd
    regions and boxes outside of their image are skipped, as in the COCO evaluation. Predictions are
    clipped to the image, as detections are.

    Args:
        dataset_name: of a registered dataset.
        model: the model that is evaluated; its predictions before NMS are recorded.
        output_dir: folder for ``alignment.json``; None writes no file.

    Raises:
        DataError: the annotations of the dataset are not known.
    """

    def __init__(self, dataset_name: str, model: nn.Module, output_dir: str | None = None) -> None:
        self.recorder = PredictionRecorder(model)
        self.output_dir = output_dir
        self._dataset = load_dataset(dataset_name).ignore_outside_boxes()
        if not self._dataset.annotated:
            raise DataError(
                f"{self._dataset.source} has no annotations, so alignment cannot be measured on it."
            )
        self._positions = {image_id: i for i, image_id in enumerate(self._dataset.image_ids)}
        self._sums: defaultdict[str, float] = defaultdict(float)

    def reset(self) -> None:
        """Start over, and start to record the model's predictions."""
        self._sums = defaultdict(float)
        self.recorder.start()

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Add a batch.

        Args:
            inputs: the model's inputs.
            outputs: the model's outputs for them.

        Raises:
            DataError: an image is not in the dataset.
            ConfigError: the model was called with test-time augmentation.
        """
        self.recorder.require_single_view(inputs)
        for index, (x, output) in enumerate(zip(inputs, outputs, strict=True)):
            position = self._positions.get(x.get("image_id", ""))
            if position is None:
                raise DataError(
                    f"The image {x.get('image_id')} is not in the dataset of AlignmentEvaluator. "
                    "Evaluate the dataset that it was built for."
                )
            gt_boxes, gt_classes = read_ground_truth(self._dataset, position)
            predictions = _to_image_pixels(self.recorder.for_image(index), x)
            self.add(predictions, output["instances"].to("cpu"), gt_boxes, gt_classes)

    def add(
        self,
        predictions: ImagePredictions,
        detections: Instances,
        gt_boxes: Tensor,
        gt_classes: Tensor,
    ) -> None:
        """Add an image. All tensors are on the CPU, all boxes in the same unit.

        Args:
            predictions: before NMS.
            detections: after NMS.
            gt_boxes: (M, 4).
            gt_classes: (M,) int64.
        """
        for correlation, mean_iou in alignment_per_instance(
            predictions.scores, predictions.boxes, gt_boxes, gt_classes
        ):
            self._sums["instances"] += 1
            self._sums["mean_iou"] += mean_iou
            if correlation is not None:
                self._sums["ranked_instances"] += 1
                self._sums["correlation"] += correlation
        counts = classify_detections(
            detections.pred_boxes.tensor, detections.pred_classes, gt_boxes, gt_classes
        )
        for kind, count in counts.items():
            self._sums[kind] += count

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """Stop recording and combine all processes.

        Returns:
            ``{"alignment": {...}}`` on the main process, else None. "PCC" and "IoU-top10" are means
            over instances (PCC over those where it is defined), NaN without any. "correct",
            "redundant" and "error" count boxes, "instances" ground truths.
        """
        self.recorder.stop()
        sums: defaultdict[str, float] = defaultdict(float)
        for part in comm.gather(self._sums):
            for key, value in part.items():
                sums[key] += value
        if not comm.is_main_process():
            return None
        result = {
            "PCC": _mean(sums["correlation"], sums["ranked_instances"]),
            "IoU-top10": _mean(sums["mean_iou"], sums["instances"]),
            **{key: sums[key] for key in ("correct", "redundant", "error", "instances")},
        }
        if self.output_dir is not None:
            try:
                make_folder(self.output_dir)
                write_text(Path(self.output_dir, "alignment.json"), json.dumps(result))
            except CheckpointError as error:
                logger.error("%s", error)
        logger.info("Alignment: %s", ", ".join(f"{k} {v:.4g}" for k, v in result.items()))
        return {"alignment": result}


def _mean(total: float, count: float) -> float:
    return total / count if count else float("nan")


def _to_image_pixels(predictions: ImagePredictions, x: dict[str, Any]) -> ImagePredictions:
    """Move predictions to the CPU, with boxes in pixels of the original image, clipped to it."""
    height, width = x["image"].shape[-2:]
    image_height, image_width = x.get("height", height), x.get("width", width)
    boxes = Boxes(predictions.boxes.float().cpu().clone())
    boxes.scale(image_width / width, image_height / height)
    boxes.clip((image_height, image_width))
    return ImagePredictions(predictions.scores.float().cpu(), boxes.tensor)
