"""The model as a function of tensors, which all exported files hold.

Shapes: **N** images, **H, W** the batch's size with padding, **R** points over all levels, **K**
classes, **D** detections.
"""

import copy
from collections.abc import Collection
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..modeling import DenseDetectorCore, size_divisor
from ..modeling.structures import DensePredictions
from .nms import NMSForm
from .postprocessing import finalize, select_candidates

_SIZES = ("image_sizes", "original_sizes")
_DETECTIONS = ("boxes", "scores", "labels", "num_dets")


class ExportableNetwork(nn.Module):
    """Pixels to scores and boxes of all points: base class of both outputs.

    ``input_names`` and ``output_names`` are those of the file; ``dynamic_axes`` names the axes that
    may have any size.

    Args:
        model: a TOOD in evaluation mode. It is not changed.
        dtype: of backbone and head. Box decoding and scores are in float32 in any case.
    """

    input_names: ClassVar[tuple[str, ...]]
    output_names: ClassVar[tuple[str, ...]]
    dynamic_axes: ClassVar[dict[str, dict[int, str]]]

    def __init__(self, model: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.model: DenseDetectorCore = (
            model if dtype == torch.float32 else copy.deepcopy(model).to(dtype)
        )
        self.dtype = dtype
        mean, std = model.pixel_mean.float(), model.pixel_std.float()
        self.register_buffer("pixel_mean", mean, False)
        self.register_buffer("pixel_std", std, False)

    @property
    def fixed_axes(self) -> dict[str, dict[int, int]]:
        """Sizes of axes that do not depend on the input, by name of the output."""
        raise NotImplementedError

    def symbolic_axes(self, dynamic: bool | Collection[str]) -> dict[str, dict[int, str]]:
        """Names of the axes that may have any size, by input or output.

        Args:
            dynamic: which of "batch", "height" and "width" are among them; True for all.
        """
        chosen = {"batch", "height", "width"} if dynamic is True else set(dynamic or ())
        if chosen & {"height", "width"}:
            chosen.add("points")
        return {
            name: {axis: size for axis, size in axes.items() if size in chosen}
            for name, axes in self.dynamic_axes.items()
        }

    def _predict(self, images: Tensor, image_sizes: Tensor) -> DensePredictions:
        """Normalize (N, C, H, W), set everything outside of the images to 0, and predict."""
        x = (images - self.pixel_mean) / self.pixel_std
        height, width = x.shape[-2:]
        rows = torch.arange(height, device=x.device) < image_sizes[:, :1]
        columns = torch.arange(width, device=x.device) < image_sizes[:, 1:]
        inside = rows[:, None, :, None] & columns[:, None, None, :]
        x = torch.where(inside, x, 0.0)
        divisor = size_divisor(self.model)
        if divisor > 1:
            x = F.pad(x, (0, _padding(width, divisor), 0, _padding(height, divisor)))
        _, predictions = self.model.predict(self.model.backbone(x.to(self.dtype)))
        return predictions


def _padding(size: int, divisor: int) -> int:
    """What is missing to the next multiple."""
    if torch.jit.is_tracing():
        return -size % divisor
    # torch.export's symbolic arithmetic simplifies this form at once, and the other in minutes.
    return (size - 1) // divisor * divisor + divisor - size


class DetectionNetwork(ExportableNetwork):
    """Images to detections, NMS included.

    Args:
        model: a TOOD in evaluation mode.
        dtype: see :class:`ExportableNetwork`.
        nms_form: see :data:`~tood.export.nms.NMSForm`.
    """

    input_names = ("images", *_SIZES)
    output_names = _DETECTIONS
    dynamic_axes: ClassVar[dict[str, dict[int, str]]] = {
        "images": {0: "batch", 2: "height", 3: "width"},
        **{name: {0: "batch"} for name in _SIZES + _DETECTIONS},
    }

    def __init__(
        self, model: nn.Module, dtype: torch.dtype = torch.float32, nms_form: NMSForm = "portable"
    ) -> None:
        super().__init__(model, dtype)
        self.nms_form: NMSForm = nms_form

    @property
    def fixed_axes(self) -> dict[str, dict[int, int]]:
        """Sizes of axes that do not depend on the input, by name of the output."""
        core = self.model
        candidates = core.test_topk_candidates * len(core.level_strides)
        limit = core.max_detections_per_image
        count = candidates if limit < 0 else min(limit, candidates)
        return {"boxes": {1: count, 2: 4}, "scores": {1: count}, "labels": {1: count}}

    def forward(
        self, images: Tensor, image_sizes: Tensor, original_sizes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Detect objects.

        Args:
            images: (N, 3, H, W) float32, 0 to 255, in the channel order of the model. Each image is
                in the top-left corner; what lies outside of it has no effect.
            image_sizes: (N, 2) int64, height and width of each image without padding.
            original_sizes: (N, 2) int64, height and width that boxes refer to.

        Returns:
            ``boxes`` (N, D, 4) float32 in pixels of the original images, best first; ``scores``
            (N, D); ``labels`` (N, D) int64; ``num_dets`` (N,) int64. From ``num_dets`` on boxes and
            scores are 0, and labels -1.
        """
        core = self.model
        predictions = self._predict(images, image_sizes)
        centerness = predictions.centerness or [None] * len(predictions.scores)
        levels = [
            select_candidates(
                scores, boxes, center, core.test_score_thresh, core.test_topk_candidates
            )
            for scores, boxes, center in zip(
                predictions.scores, predictions.boxes, centerness, strict=True
            )
        ]
        found = finalize(
            levels,
            image_sizes,
            original_sizes,
            nms_thresh=core.test_nms_thresh,
            max_detections=core.max_detections_per_image,
            num_classes=core.num_classes,
            nms_form=self.nms_form,
        )
        valid = found.scores > 0
        return (
            torch.where(valid[..., None], found.boxes, 0.0),
            torch.where(valid, found.scores, 0.0),
            torch.where(valid, found.classes, -1),
            valid.sum(1),
        )


class RawNetwork(ExportableNetwork):
    """Images to scores and boxes of all points, before any threshold and NMS."""

    input_names = ("images", "image_sizes")
    output_names = ("boxes", "scores")
    dynamic_axes: ClassVar[dict[str, dict[int, str]]] = {
        "images": {0: "batch", 2: "height", 3: "width"},
        "image_sizes": {0: "batch"},
        "boxes": {0: "batch", 1: "points"},
        "scores": {0: "batch", 1: "points"},
    }

    @property
    def fixed_axes(self) -> dict[str, dict[int, int]]:
        """Sizes of axes that do not depend on the input, by name of the output."""
        return {"boxes": {2: 4}, "scores": {2: self.model.num_classes}}

    def forward(self, images: Tensor, image_sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Predict boxes and scores of all points.

        Args:
            images: see :meth:`DetectionNetwork.forward`.
            image_sizes: likewise.

        Returns:
            ``boxes`` (N, R, 4) in pixels of the network's input, not clipped, and ``scores``
            (N, R, K), multiplied by centerness where the head predicts it.
        """
        flat = self._predict(images, image_sizes).flatten()
        return flat.boxes, flat.ranking_scores
