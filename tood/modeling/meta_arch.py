"""The meta-architecture TOOD: the core with a backbone and detectron2's inputs and outputs.

Shapes: **N** images, **Hi, Wi** the map of level i, **K** classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.modeling.backbone import Backbone
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor

from ..errors import DataError
from .core_args import core_args, validate_config
from .dense_detector import DenseDetectorCore
from .events import drawing_storage
from .ground_truth import to_ground_truth
from .profiling import profiler_range
from .small_maps import explain_small_maps
from .structures import DensePredictions, GroundTruth, ImageDetections
from .tracing import is_tracing, refuse_foreign_tracing
from .views import candidates_of_views, detect_in_views, has_views, size_divisor, size_of
from .visualization import IMAGE_NAME, RGBImage, draw_training_image


@META_ARCH_REGISTRY.register()
class TOOD(DenseDetectorCore):
    """Task-aligned one-stage object detection (Feng et al., ICCV 2021).

    Args:
        backbone: a detectron2 backbone.
        pixel_mean: of each channel, in the order of ``INPUT.FORMAT``.
        pixel_std: likewise.
        input_format: order of the channels, for drawings.
        vis_period: draw a training image every so many iterations; 0 for never.
        class_names: by class index, for drawings.
        **core: see :class:`DenseDetectorCore`.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        pixel_mean: list[float],
        pixel_std: list[float],
        input_format: str = "BGR",
        vis_period: int = 0,
        class_names: Sequence[str] = (),
        **core: Any,
    ) -> None:
        super().__init__(**core)
        self.input_format, self.vis_period = input_format, vis_period
        self.class_names = list(class_names)
        self.backbone = backbone
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Build the parts and collect the constructor's arguments.

        Raises:
            ConfigError: keys or values of ``cfg.MODEL.TOOD`` that do not exist or do not fit.
        """
        validate_config(cfg)
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "input_format": cfg.INPUT.FORMAT,
            "vis_period": cfg.VIS_PERIOD,
            "class_names": cfg.MODEL.TOOD.CLASS_NAMES,
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
                * "height", "width" (optional): the size that detections refer to;
                * "views" (optional, eval mode): views of the image, whose candidates are merged
                  before NMS; see `tood.modeling.views`.

        Returns:
            In training mode a dict of weighted scalar losses: ``loss_cls``, ``loss_box_reg``, and
            ``loss_centerness`` if the head predicts centerness. Otherwise, for each image,
            ``{"instances": Instances(pred_boxes, scores, pred_classes)}``.

        Raises:
            ValueError: ground truth is missing in training mode.
            DataError: a class of the ground truth is outside of [0, K), or an image has other
                channels than ``MODEL.PIXEL_MEAN``.
            ConfigError: an image is too small for a batch normalization.
        """
        if not self.training:
            return self.inference(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        ground_truth = self.prepare_ground_truth(batched_inputs)
        with explain_small_maps(images):
            with profiler_range("tood/backbone"):
                features = self.backbone(images.tensor)
            with profiler_range("tood/head"):
                grid, predictions = self.predict(features)
        storage = drawing_storage(self.vis_period)
        if storage is not None and (self.batch_parts is None or self.batch_parts.is_first):
            drawing = self._draw(batched_inputs[0], predictions, ground_truth[0])
            storage.put_image(IMAGE_NAME, drawing)
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

        Raises:
            RuntimeError: something else than ``tood.export`` traces the model.
        """
        if has_views(batched_inputs):
            sizes = [size_of(x) for x in batched_inputs]
            detections = detect_in_views(self, batched_inputs, sizes, score_thresh)
        else:
            predictions, sizes = self._predict_images(batched_inputs)
            with profiler_range("tood/postprocess"):
                detections = self.detect(predictions, sizes, score_thresh)
        return [
            {"instances": _to_instances(found, size, x)}
            for found, size, x in zip(detections, sizes, batched_inputs, strict=True)
        ]

    def image_candidates(
        self,
        batched_inputs: list[dict],
        score_thresh: float | None = None,
        class_ids: Sequence[int] | None = None,
    ) -> list[ImageDetections]:
        """Candidates of each image before NMS, in pixels of the network's input.

        Args:
            batched_inputs: see :meth:`forward`.
            score_thresh: see :meth:`candidates`.
            class_ids: likewise.
        """
        if has_views(batched_inputs):
            return candidates_of_views(
                lambda views: self.image_candidates(views, score_thresh, class_ids),
                batched_inputs,
                size_divisor(self),
            )
        predictions, _ = self._predict_images(batched_inputs)
        return self.candidates(predictions, score_thresh, class_ids)

    def _predict_images(
        self, batched_inputs: list[dict]
    ) -> tuple[DensePredictions, list[tuple[int, int]]]:
        """Run the network on a batch, and return the sizes of its images too."""
        refuse_foreign_tracing()
        images = self.preprocess_image(batched_inputs)
        with profiler_range("tood/backbone"):
            features = self.backbone(images.tensor)
        with profiler_range("tood/head"):
            _, predictions = self.predict(features)
        return predictions, [(int(height), int(width)) for height, width in images.image_sizes]

    def preprocess_image(self, batched_inputs: list[dict]) -> ImageList:
        """Normalize the images and pad them to one batch (N, 3, H, W).

        Raises:
            DataError: an image has neither one channel nor those of ``MODEL.PIXEL_MEAN``.
        """
        channels = len(self.pixel_mean)
        for x in batched_inputs:
            if not is_tracing() and x["image"].shape[0] not in (1, channels):
                raise DataError(
                    f"{x.get('file_name', 'An image')} has {x['image'].shape[0]} channels, but "
                    f"MODEL.PIXEL_MEAN has {channels} values. Set PIXEL_MEAN, PIXEL_STD and "
                    "INPUT.FORMAT to those of the images."
                )
        images = [
            (x["image"].to(self.device) - self.pixel_mean) / self.pixel_std for x in batched_inputs
        ]
        return ImageList.from_tensors(images, self.backbone.size_divisibility)

    @torch.no_grad()
    def _draw(self, x: dict, predictions: DensePredictions, ground_truth: GroundTruth) -> RGBImage:
        """Draw the first image of a batch, with what the model now detects in it."""
        height, width = x["image"].shape[-2:]
        (detections,) = self.detect(predictions, [(height, width)])
        return draw_training_image(
            x["image"], self.input_format, ground_truth, detections, self.class_names
        )

    def prepare_ground_truth(self, batched_inputs: list[dict]) -> list[GroundTruth]:
        """The images' ground truth on the model's device; see `to_ground_truth`."""
        for x in batched_inputs:
            if "instances" not in x:
                raise ValueError(
                    'Training mode needs "instances" in every input. Add it, or call model.eval() '
                    "for inference."
                )
        return [
            to_ground_truth(
                x["instances"],
                self.device,
                self.num_classes,
                source=x.get("file_name", "An image"),
                original_height=x.get("height"),
            )
            for x in batched_inputs
        ]


def _to_instances(found: ImageDetections, size: tuple[int, int], x: dict) -> Instances:
    """Detections as detectron2's Instances, in the size that the input asks for."""
    instances = Instances(size)
    instances.pred_boxes = Boxes(found.boxes)
    instances.scores = found.scores
    instances.pred_classes = found.classes
    return detector_postprocess(instances, x.get("height", size[0]), x.get("width", size[1]))
