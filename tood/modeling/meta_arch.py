"""The meta-architecture TOOD: the core with a backbone and detectron2's inputs and outputs.

Shapes: **N** images, **Hi, Wi** the map of level i, **K** classes.
"""

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.modeling.backbone import Backbone
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor

from ..config.validation import validate_model, validate_model_keys, validate_values
from ..errors import DataError
from .core_args import core_args
from .dense_detector import DenseDetectorCore
from .phases import part_nodes
from .profiling import profiler_range
from .structures import GroundTruth, ImageDetections


@META_ARCH_REGISTRY.register()
class TOOD(DenseDetectorCore):
    """Task-aligned one-stage object detection (Feng et al., ICCV 2021).

    Args:
        backbone: a detectron2 backbone.
        pixel_mean: of each channel, in the order of ``INPUT.FORMAT``.
        pixel_std: likewise.
        **core: see :class:`DenseDetectorCore`.
    """

    @configurable
    def __init__(
        self, *, backbone: Backbone, pixel_mean: list[float], pixel_std: list[float], **core: Any
    ) -> None:
        super().__init__(**core)
        self.backbone = backbone
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Build the parts and collect the constructor's arguments.

        Raises:
            ConfigError: keys or values of ``cfg.MODEL.TOOD`` that do not exist or do not fit.
        """
        validate_model_keys(cfg, part_nodes(cfg.MODEL.TOOD))
        validate_values(cfg)
        validate_model(cfg)
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            **core_args(cfg, backbone.output_shape()),
        }

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """Compute losses of a batch in training mode, else its detections.

        Args:
            batched_inputs: for each image a dict with

                * "image": (C, H, W) tensor in ``INPUT.FORMAT``, 0 to 255;
                * "instances" (training): Instances with gt_boxes (pixels) and gt_classes;
                * "height", "width" (optional): the size that detections refer to.

        Returns:
            In training mode a dict of weighted scalar losses: ``loss_cls``, ``loss_box_reg``, and
            ``loss_centerness`` if the head predicts centerness. Otherwise, for each image,
            ``{"instances": Instances(pred_boxes, scores, pred_classes)}``.

        Raises:
            ValueError: ground truth is missing in training mode.
            DataError: a class of the ground truth is outside of [0, K).
        """
        if not self.training:
            return self.inference(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        ground_truth = self._prepare_ground_truth(batched_inputs)
        with profiler_range("tood/backbone"):
            features = self.backbone(images.tensor)
        with profiler_range("tood/head"):
            grid, predictions = self.predict(features)
        sums = self.loss_sums(
            grid, predictions, ground_truth, images.image_sizes, self.backbone.size_divisibility
        )
        return self.normalize_losses(sums)

    def inference(
        self, batched_inputs: list[dict], score_thresh: float | None = None
    ) -> list[dict]:
        """Detect objects in a batch, in training and eval mode alike.

        Args:
            batched_inputs: see :meth:`forward`.
            score_thresh: instead of ``test_score_thresh``.

        Returns:
            For each image ``{"instances": Instances(pred_boxes, scores, pred_classes)}``.
        """
        images = self.preprocess_image(batched_inputs)
        with profiler_range("tood/backbone"):
            features = self.backbone(images.tensor)
        with profiler_range("tood/head"):
            _, predictions = self.predict(features)
        sizes = [(int(height), int(width)) for height, width in images.image_sizes]
        with profiler_range("tood/postprocess"):
            detections = self.detect(predictions, sizes, score_thresh)
        return [
            {"instances": _to_instances(found, size, x)}
            for found, size, x in zip(detections, sizes, batched_inputs, strict=True)
        ]

    def preprocess_image(self, batched_inputs: list[dict]) -> ImageList:
        """Normalize the images and pad them to one batch (N, 3, H, W)."""
        images = [
            (x["image"].to(self.device) - self.pixel_mean) / self.pixel_std for x in batched_inputs
        ]
        return ImageList.from_tensors(images, self.backbone.size_divisibility)

    def _prepare_ground_truth(self, batched_inputs: list[dict]) -> list[GroundTruth]:
        """The images' ground truth on the model's device, after validating its classes."""
        for x in batched_inputs:
            if "instances" not in x:
                raise ValueError(
                    'Training mode needs "instances" in every input. Add it, or call model.eval() '
                    "for inference."
                )
            classes = x["instances"].gt_classes
            # Skip the check for labels already on a GPU: reading them would synchronize.
            on_cpu = classes.device.type == "cpu"
            if on_cpu and ((classes < 0) | (classes >= self.num_classes)).any():
                raise DataError(
                    f"{x.get('file_name', 'An image')} has ground truth of classes "
                    f"{classes.unique().tolist()}, but the model has classes 0 to "
                    f"{self.num_classes - 1}. Set MODEL.TOOD.NUM_CLASSES to that of the dataset."
                )
        ground_truth = []
        for x in batched_inputs:
            instances = x["instances"].to(self.device)
            height = instances.image_size[0]
            scale = x.get("height", height) / max(height, 1)
            areas = instances.gt_boxes.area() * scale**2
            ground_truth.append(GroundTruth(instances.gt_boxes.tensor, instances.gt_classes, areas))
        return ground_truth


def _to_instances(found: ImageDetections, size: tuple[int, int], x: dict) -> Instances:
    """Detections as detectron2's Instances, in the size that the input asks for."""
    instances = Instances(size)
    instances.pred_boxes = Boxes(found.boxes)
    instances.scores = found.scores
    instances.pred_classes = found.classes
    return detector_postprocess(instances, x.get("height", size[0]), x.get("width", size[1]))
