"""Detection by detectron2's two-stage detectors with masks, with little memory for the masks."""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from detectron2.modeling import GeneralizedRCNN, detector_postprocess
from detectron2.structures import Instances
from torch import Tensor, nn

from tood_runtime.masks import Mask, Masks
from tood_runtime.nms import Candidates
from tood_runtime.prediction import PredictionSettings

from ..errors import ConfigError
from .tensors import instances_to_candidates

logger = logging.getLogger(__name__)

# Bytes that masks of the image's size may take while they are packed. The model itself would give
# those of all objects of a batch at once: 1.2 GB for 100 objects of one image of 4000x3000 pixels.
_MOST_BYTES = 2**27


def predicts_masks(model: nn.Module) -> bool:
    """Whether the detections of a model have masks, as those of detectron2's Mask R-CNN."""
    return _is_on(model, "mask_on")


def _is_on(model: nn.Module, flag: str) -> bool:
    """Whether a part of a model, such as its ROI heads, has a flag set."""
    return any(getattr(module, flag, False) is True for module in model.modules())


def warn_about_keypoints(model: nn.Module) -> None:
    """Say that `Detections` has no keypoints, if a model predicts some."""
    if _is_on(model, "keypoint_on"):
        logger.warning(
            "The model predicts keypoints, but Detections hold boxes and masks only: call the "
            "model itself for its pred_keypoints."
        )


def instances_of(output: dict[str, Any], model: nn.Module) -> Instances:
    """Return the detections in the output of a model that is not a TOOD.

    Raises:
        ConfigError: it has none, but proposals or pixel classes alone.
    """
    if "instances" not in output:
        raise ConfigError(
            f"A {type(model).__name__} detects no objects: its output has "
            f"{', '.join(sorted(output))}. Call the model itself, or use a MODEL.META_ARCHITECTURE "
            "with detections, such as GeneralizedRCNN."
        )
    instances: Instances = output["instances"]
    return instances


def can_paste_later(model: nn.Module) -> bool:
    """Whether `detect_with_masks` is for this model."""
    return (
        isinstance(model, GeneralizedRCNN)
        and type(model).inference is GeneralizedRCNN.inference
        and predicts_masks(model)
    )


def detect_with_masks(
    model: nn.Module, inputs: list[dict[str, Any]], settings: PredictionSettings
) -> list[Candidates]:
    """Detect objects as the model does, and paste the masks of those that are kept.

    Args:
        model: see `can_paste_later`.
        inputs: of the model, with "height" and "width".
        settings: scores and classes that are kept.
    """
    outputs = model.inference(inputs, do_postprocess=False)
    return [
        _to_candidates(_selected(instances, settings), (int(x["height"]), int(x["width"])))
        for instances, x in zip(outputs, inputs, strict=True)
    ]


def _selected(instances: Instances, settings: PredictionSettings) -> Instances:
    """Leave out what will not be kept anyway."""
    keep: Tensor = instances.scores.float() > np.float32(settings.score_threshold).item()
    if settings.class_ids is not None:
        classes = instances.pred_classes
        keep &= torch.isin(classes, torch.tensor(settings.class_ids, device=classes.device))
    return instances[keep]


def _to_candidates(instances: Instances, image_size: tuple[int, int]) -> Candidates:
    """Detections in pixels of the image, with masks that are pasted and packed part by part."""
    at_once = max(1, _MOST_BYTES // (image_size[0] * image_size[1]))
    # In lower precision, pixels of large images have no coordinates of their own.
    instances.pred_masks = instances.pred_masks.float()
    pasted: list[Instances] = []

    def masks() -> Iterator[Mask]:
        """Paste the masks, and keep what is left of each part."""
        for start in range(0, max(len(instances), 1), at_once):
            part = detector_postprocess(instances[start : start + at_once], *image_size)
            for mask in part.pred_masks:
                yield mask.bool().cpu().numpy()
            part.remove("pred_masks")
            pasted.append(part)

    packed = Masks.from_arrays(masks(), image_size)
    return instances_to_candidates(Instances.cat(pasted))._replace(masks=packed)
