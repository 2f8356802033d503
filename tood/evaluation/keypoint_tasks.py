"""What the COCO evaluator does for keypoints alone."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.structures import Instances

from ..data.dataset import DetectionDataset
from ..data.keypoint_arrays import count_labeled
from ..data.keypoints import oks_sigmas
from ..errors import ConfigError
from .coco_metrics import KEYPOINT_LIMIT, STANDARD_LIMITS

logger = logging.getLogger(__name__)


def dataset_sigmas(dataset: DetectionDataset, sigmas: Sequence[float]) -> list[float]:
    """Return the sigmas to evaluate the keypoints of a dataset with.

    Args:
        dataset: the ground truth.
        sigmas: ``TEST.KEYPOINT_OKS_SIGMAS``; COCO's for none.

    Raises:
        ConfigError: their number is not that of the keypoints, or the keypoints were not read.
    """
    if dataset.keypoints is None:
        raise ConfigError(
            f"The keypoints of {dataset.source} were not read. Set MODEL.KEYPOINT_ON True, or "
            'evaluate boxes only with tasks=("bbox",).'
        )
    return oks_sigmas(sigmas, dataset.keypoints.shape[1])


def warn_about_crowded_keypoints(dataset: DetectionDataset, limit: int) -> None:
    """Warn where an image has more objects with keypoints than COCO counts.

    Args:
        dataset: the ground truth.
        limit: on detections per image; a negative number means all.
    """
    if dataset.keypoints is None or not 0 <= limit <= STANDARD_LIMITS[-1]:
        return
    counted = ~dataset.is_crowd & (count_labeled(dataset.keypoints) > 0)
    counts = np.bincount(dataset.image_index[counted], minlength=len(dataset))
    crowded = int((counts > KEYPOINT_LIMIT).sum())
    if crowded:
        logger.warning(
            "%d images of %s have more than %d objects with keypoints. COCO's evaluation of "
            "keypoints counts so many of an image, so the others count as missed. To count more, "
            "set TEST.DETECTIONS_PER_IMAGE above %d.",
            *(crowded, dataset.source, KEYPOINT_LIMIT, STANDARD_LIMITS[-1]),
        )


def validate_predicted_keypoints(results: Sequence[dict[str, Any]], num_keypoints: int) -> None:
    """Check that detections have the keypoints of the dataset.

    Args:
        results: detections in COCO's result format.
        num_keypoints: of the dataset.

    Raises:
        ConfigError: there are none, or another number.
    """
    for result in results:
        if "keypoints" not in result:
            raise ConfigError(
                "The model predicts no keypoints, so they cannot be evaluated. Evaluate "
                'tasks=("bbox",), or a model with MODEL.KEYPOINT_ON.'
            )
        found = len(result["keypoints"]) // 3
        if found != num_keypoints:
            raise ConfigError(
                f"The model predicts {found} keypoints, but the dataset has {num_keypoints}. "
                "Evaluate on a dataset with the keypoints that the model was trained on."
            )


def with_copied_keypoints(output: dict[str, Any]) -> dict[str, Any]:
    """Return a model's output for an image with keypoints that may be changed.

    detectron2's conversion to COCO's format moves them by half a pixel in place, where others would
    read them.
    """
    instances = output.get("instances")
    if not isinstance(instances, Instances) or not instances.has("pred_keypoints"):
        return output
    copied = Instances(instances.image_size, **instances.get_fields())
    copied.pred_keypoints = instances.pred_keypoints.clone()
    return {**output, "instances": copied}
