"""What the model itself predicts for a batch, in PyTorch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.structures import ImageList, Instances
from torch import nn

from tood_runtime.preprocessing import round_up

from ...modeling import size_divisor
from ...modeling.structures import DensePredictions
from .images import Size, VerificationBatch
from .matching import Detected, Floats
from .near_ties import LevelPredictions, PostprocessingSettings


class Reference(NamedTuple):
    """Predictions of the model for a batch.

    Attributes:
        detections: of each image.
        dense: of all points, which the detections were selected from.
    """

    detections: list[Detected]
    dense: DensePredictions

    def levels(self, index: int) -> list[LevelPredictions]:
        """The predictions for an image, level by level."""
        scores, boxes, centerness = self.dense.for_image(index)
        centers = [None] * len(scores) if centerness is None else [c.numpy() for c in centerness]
        return [
            LevelPredictions(level_scores.numpy(), level_boxes.numpy(), center)
            for level_scores, level_boxes, center in zip(scores, boxes, centers, strict=True)
        ]

    def raw(self) -> tuple[Floats, Floats]:
        """What a file with raw output holds: boxes (N, R, 4) and scores (N, R, K)."""
        flat = self.dense.flatten()
        return flat.boxes.numpy(), flat.ranking_scores.numpy()


@torch.no_grad()
def run_model(model: nn.Module, batch: VerificationBatch) -> Reference:
    """Run :meth:`TOOD.inference` on a batch, padded like the file's.

    The padding has to be the same, because the T-head averages over it.
    """
    recorded: list[DensePredictions] = []
    hook = model.head.register_forward_hook(lambda _, __, output: recorded.append(output))
    try:
        with _padding_to(model, batch.padded_size):
            outputs = model.inference(batch.model_inputs())
    finally:
        hook.remove()
    (dense,) = recorded
    return Reference(
        detections=[
            to_network_pixels(_to_detected(output["instances"]), image.size, image.original_size)
            for output, image in zip(outputs, batch.images, strict=True)
        ],
        dense=DensePredictions(
            [level.float().cpu() for level in dense.scores],
            [level.float().cpu() for level in dense.boxes],
            dense.centerness and [level.float().cpu() for level in dense.centerness],
        ),
    )


@contextmanager
def _padding_to(model: nn.Module, size: Size) -> Iterator[None]:
    """Let the model pad its batches to a size at least, and to its divisor."""
    preprocess_image = model.preprocess_image
    height, width = (round_up(side, size_divisor(model)) for side in size)

    def preprocess_and_pad(batched_inputs: list[dict]) -> ImageList:
        images = preprocess_image(batched_inputs)
        right, bottom = width - images.tensor.shape[-1], height - images.tensor.shape[-2]
        return ImageList(F.pad(images.tensor, (0, right, 0, bottom)), images.image_sizes)

    model.preprocess_image = preprocess_and_pad
    try:
        yield
    finally:
        del model.preprocess_image


def settings_of(model: nn.Module) -> PostprocessingSettings:
    """The post-processing of a model."""
    return PostprocessingSettings(
        model.test_score_thresh,
        model.test_topk_candidates,
        model.test_nms_thresh,
        model.max_detections_per_image,
    )


def detect_in_raw(
    model: nn.Module, boxes: Floats, scores: Floats, dense: DensePredictions, sizes: list[Size]
) -> list[Detected]:
    """The detections that the model's post-processing makes of raw output.

    Args:
        model: a TOOD.
        boxes: (N, R, 4).
        scores: (N, R, K).
        dense: predictions of the same shapes.
        sizes: of each image, without padding.
    """
    shapes = [level.shape[-2:] for level in dense.boxes]
    counts = [height * width for height, width in shapes]

    def split(values: Floats) -> list[torch.Tensor]:
        parts = torch.from_numpy(values).transpose(1, 2).split(counts, dim=2)
        return [part.unflatten(2, shape) for part, shape in zip(parts, shapes, strict=True)]

    found = model.detect(DensePredictions(split(scores), split(boxes)), sizes)
    return [Detected(*(values.numpy() for values in detections)) for detections in found]


def to_network_pixels(found: Detected, size: Size, original_size: Size) -> Detected:
    """Scale boxes of the original image back to the network's input."""
    vertical, horizontal = size[0] / original_size[0], size[1] / original_size[1]
    return found._replace(
        boxes=found.boxes * np.array([horizontal, vertical, horizontal, vertical])
    )


def _to_detected(instances: Instances) -> Detected:
    return Detected(
        instances.pred_boxes.tensor.float().cpu().numpy(),
        instances.scores.float().cpu().numpy(),
        instances.pred_classes.cpu().numpy(),
    )
