"""The model as a function of tensors, which all exported files hold.

Shapes: **N** images, **H, W** the batch's size with padding, **R** points over all levels, **K**
classes, **D** detections.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..modeling import DenseDetectorCore
from ..modeling.structures import DensePredictions
from .nms import NMSForm
from .postprocessing import finalize, select_candidates


class ExportableNetwork(nn.Module):
    """Pixels to scores and boxes of all points: base class of both outputs.

    Args:
        model: a TOOD in evaluation mode. It is not changed unless ``dtype`` is another one.
        dtype: of backbone and head. Box decoding and scores are in float32 in any case.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.model: DenseDetectorCore = model if dtype == torch.float32 else model.to(dtype)
        self.dtype = dtype
        mean, std = model.pixel_mean.float(), model.pixel_std.float()
        self.register_buffer("pixel_mean", mean, False)
        self.register_buffer("pixel_std", std, False)

    def _predict(self, images: Tensor, image_sizes: Tensor | None) -> DensePredictions:
        """Normalize (N, 3, H, W), set everything outside of the images to 0, and predict."""
        x = (images - self.pixel_mean) / self.pixel_std
        height, width = x.shape[-2:]
        if image_sizes is not None:
            rows = torch.arange(height, device=x.device) < image_sizes[:, :1]
            columns = torch.arange(width, device=x.device) < image_sizes[:, 1:]
            inside = rows[:, None, :, None] & columns[:, None, None, :]
            x = torch.where(inside, x, 0.0)
        divisor = max(self.model.backbone.size_divisibility, 1)
        if divisor > 1:
            right, bottom = -width % divisor, -height % divisor
            x = F.pad(x, (0, right, 0, bottom))
        _, predictions = self.model.predict(self.model.backbone(x.to(self.dtype)))
        return predictions


class DetectionNetwork(ExportableNetwork):
    """Images to detections, NMS included.

    Args:
        model: a TOOD in evaluation mode.
        dtype: see :class:`ExportableNetwork`.
        nms_form: see :data:`~tood.export.nms.NMSForm`.
    """

    input_names = ("images", "image_sizes", "original_sizes")
    output_names = ("boxes", "scores", "labels", "num_dets")
    dynamic_axes: ClassVar[dict[str, dict[int, str]]] = {
        "images": {0: "batch", 2: "height", 3: "width"},
        **dict.fromkeys((*input_names[1:], *output_names), {0: "batch"}),
    }

    def __init__(
        self, model: nn.Module, dtype: torch.dtype = torch.float32, nms_form: NMSForm = "portable"
    ) -> None:
        super().__init__(model, dtype)
        self.nms_form: NMSForm = nms_form

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
        **dict.fromkeys(output_names, {0: "batch", 1: "points"}),
    }

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
        scores = flat.scores if flat.centerness is None else flat.scores * flat.centerness
        return flat.boxes, scores
