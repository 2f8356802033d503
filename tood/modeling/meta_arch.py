"""The meta-architecture: wires backbone, head, assigners, losses and post-processing.

Shapes: **N** images, **Hi, Wi** the map of level i, **R** points over all levels, **K** classes.
Pixels are those of the network's input.
"""

import logging

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.modeling.anchor_generator import build_anchor_generator
from detectron2.modeling.backbone import Backbone
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from detectron2.utils.logger import log_first_n
from torch import Tensor, nn

from ..compat import has_event_storage
from ..errors import ConfigError, DataError
from .assigners import Assignment, AssignmentStatistics
from .heads import DensePredictions, build_dense_head
from .phases import Phase, build_phases
from .postprocessing import postprocess_single_image
from .structures import AnchorGrid, FlatPredictions, LossSum, flatten_levels
from .targets import compute_targets

# The assignment's statistics are read back from the device this often, when detectron2's writers
# also write; every read makes the step wait for the device.
STATISTICS_PERIOD = 20


@META_ARCH_REGISTRY.register()
class TOOD(nn.Module):
    """Task-aligned one-stage object detection (Feng et al., ICCV 2021).

    Training has two phases, each an assigner and its losses: ``"warmup"`` (ATSS, focal loss) and
    ``"aligned"`` (task alignment learning). :meth:`set_phase` switches;
    ``tood.engine.PhaseHook`` calls it at every step. The phase is no part of the state_dict: it
    follows from the iteration.

    Args:
        backbone: a detectron2 backbone.
        head: see ``DENSE_HEAD_REGISTRY``.
        head_in_features: names of the backbone's maps that the head gets, finest first.
        anchor_generator: detectron2's, with one anchor a cell.
        phases: what each of :data:`PHASES` works with.
        initial_phase: the phase that epoch 0 has.
        num_classes: K.
        loss_weights: weight of each loss by its name, 1 for others.
        test_score_thresh, test_topk_candidates, test_nms_thresh, max_detections_per_image: see
            :func:`~tood.modeling.postprocessing.postprocess_single_image`.
        pixel_mean, pixel_std: of each channel, in the order of ``INPUT.FORMAT``.

    Raises:
        ConfigError: more than one anchor a cell.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: list[str],
        anchor_generator: nn.Module,
        phases: dict[str, Phase],
        initial_phase: str,
        num_classes: int,
        loss_weights: dict[str, float],
        test_score_thresh: float,
        test_topk_candidates: int,
        test_nms_thresh: float,
        max_detections_per_image: int,
        pixel_mean: list[float],
        pixel_std: list[float],
    ) -> None:
        super().__init__()
        if set(anchor_generator.num_anchors) != {1}:
            raise ConfigError(
                f"TOOD has one anchor a cell, and MODEL.ANCHOR_GENERATOR makes "
                f"{anchor_generator.num_anchors} on its levels: give one size a level in SIZES, "
                "and one ratio in ASPECT_RATIOS"
            )
        self.backbone = backbone
        self.head = head
        self.head_in_features = head_in_features
        self.anchor_generator = anchor_generator
        shapes = backbone.output_shape()
        self.level_strides = [shapes[name].stride for name in head_in_features]
        self.phases = phases
        self.set_phase(initial_phase)
        self._phase_was_set = False
        self.num_classes = num_classes
        self.loss_weights = loss_weights
        self.test_score_thresh = test_score_thresh
        self.test_topk_candidates = test_topk_candidates
        self.test_nms_thresh = test_nms_thresh
        self.max_detections_per_image = max_detections_per_image
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)
        self._statistics = AssignmentStatistics()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Build the parts and collect the constructor's arguments."""
        node = cfg.MODEL.TOOD
        backbone = build_backbone(cfg)
        shapes = backbone.output_shape()
        missing = [name for name in node.IN_FEATURES if name not in shapes]
        if missing:
            raise ConfigError(
                f"MODEL.TOOD.IN_FEATURES names {missing}, and the backbone "
                f"{cfg.MODEL.BACKBONE.NAME} has {sorted(shapes)}"
            )
        input_shape = [shapes[name] for name in node.IN_FEATURES]
        return {
            "backbone": backbone,
            "head": build_dense_head(cfg, input_shape),
            "head_in_features": node.IN_FEATURES,
            "anchor_generator": build_anchor_generator(cfg, input_shape),
            "phases": build_phases(node),
            "initial_phase": "warmup" if node.WARMUP.EPOCHS > 0 else "aligned",
            "num_classes": node.NUM_CLASSES,
            "loss_weights": {key.lower(): weight for key, weight in node.LOSS_WEIGHTS.items()},
            "test_score_thresh": node.SCORE_THRESH_TEST,
            "test_topk_candidates": node.TOPK_CANDIDATES_TEST,
            "test_nms_thresh": node.NMS_THRESH_TEST,
            "max_detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.pixel_mean.device

    @property
    def phase(self) -> str:
        """The phase of training, one of :data:`PHASES`."""
        return self._phase

    def set_phase(self, phase: str) -> None:
        """Choose the phase of training, ``"warmup"`` or ``"aligned"``; ValueError on any other."""
        if phase not in self.phases:
            raise ValueError(f"unknown phase {phase!r}: it must be one of {list(self.phases)}")
        self._phase = phase
        self._phase_was_set = True

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """Losses of a batch in training mode, else its detections.

        Args:
            batched_inputs: for each image a dict with

                * "image": (C, H, W) tensor in ``INPUT.FORMAT``, 0 to 255;
                * "instances" (training): Instances with gt_boxes (pixels) and gt_classes;
                * "height", "width" (optional): size that the detections are to have.

        Returns:
            In training mode a dict of scalars, weighted: ``loss_cls``, ``loss_box_reg``, and of
            heads with such a branch ``loss_centerness``; else for each image
            ``{"instances": Instances(pred_boxes, scores, pred_classes)}``.

        Raises:
            ValueError: ground truth is missing.
            DataError: it has classes outside of [0, K).
        """
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        features = [features[name] for name in self.head_in_features]
        anchors = [boxes.tensor for boxes in self.anchor_generator(features)]
        predictions = self.head(features, anchors)
        if self.training:
            return self.forward_training(batched_inputs, images, anchors, predictions)
        return self.forward_inference(batched_inputs, images, predictions)

    def preprocess_image(self, batched_inputs: list[dict]) -> ImageList:
        """Normalize the images and pad them to one batch."""
        images = [
            (x["image"].to(self.device) - self.pixel_mean) / self.pixel_std for x in batched_inputs
        ]
        return ImageList.from_tensors(images, self.backbone.size_divisibility)

    def forward_training(
        self,
        batched_inputs: list[dict],
        images: ImageList,
        anchors: list[Tensor],
        predictions: DensePredictions,
    ) -> dict[str, Tensor]:
        """Label the points by the phase's assigner and compute its losses."""
        if not self._phase_was_set and self.phase == "warmup":
            log_first_n(
                logging.WARNING,
                "Nothing has called set_phase(): training stays in the warm-up phase. In a loop "
                "of your own, register tood.engine.PhaseHook or call set_phase().",
                name="tood",
            )
        gt_instances = self._ground_truth(batched_inputs)
        phase = self.phases[self.phase]
        # float16 can hold neither u^6 nor the losses of probabilities.
        with torch.autocast(self.device.type, enabled=False):
            shapes = [tuple(level.shape[-2:]) for level in predictions.pred_boxes]
            flat = FlatPredictions(
                *(None if maps is None else flatten_levels(maps).float() for maps in predictions)
            )
            labels, assignments = compute_targets(
                phase.assigner,
                flat,
                AnchorGrid.from_levels(anchors, shapes, self.level_strides),
                images.image_sizes,
                self.backbone.size_divisibility,
                [gt.gt_boxes.tensor for gt in gt_instances],
                [gt.gt_classes for gt in gt_instances],
            )
            losses = self.normalize_losses(phase.criterion(flat, labels))
        self._log_assignment_stats(batched_inputs, gt_instances, assignments)
        return losses

    def _ground_truth(self, batched_inputs: list[dict]) -> list[Instances]:
        """The images' ground truth, on the model's device, after a check of its classes."""
        for x in batched_inputs:
            if "instances" not in x:
                raise ValueError("in training mode every input needs its ground truth, 'instances'")
            classes = x["instances"].gt_classes
            # Where the classes already are on a GPU, a look at them would make it wait.
            on_cpu = classes.device.type == "cpu"
            if on_cpu and ((classes < 0) | (classes >= self.num_classes)).any():
                raise DataError(
                    f"{x.get('file_name', 'an image')} has ground truth of the classes "
                    f"{classes.unique().tolist()}, and the model the classes 0 to "
                    f"{self.num_classes - 1}: set MODEL.TOOD.NUM_CLASSES to that of the dataset"
                )
        return [x["instances"].to(self.device) for x in batched_inputs]

    def normalize_losses(self, sums: dict[str, LossSum]) -> dict[str, Tensor]:
        """Divide each sum by its normalizer's mean over processes, at least 1, and weight it."""
        normalizers = torch.stack([loss.normalizer for loss in sums.values()]).detach()
        world_size = comm.get_world_size()
        if world_size > 1:
            torch.distributed.all_reduce(normalizers)
        normalizers = (normalizers / world_size).clamp(min=1)
        return {
            name: loss.total / normalizer * self.loss_weights.get(name, 1.0)
            for (name, loss), normalizer in zip(sums.items(), normalizers, strict=True)
        }

    def _log_assignment_stats(
        self,
        batched_inputs: list[dict],
        gt_instances: list[Instances],
        assignments: list[Assignment],
    ) -> None:
        """Collect the health of this process's assignments, and store it now and then."""
        for x, gt, assignment in zip(batched_inputs, gt_instances, assignments, strict=True):
            height = gt.image_size[0]
            scale = x.get("height", height) / max(height, 1)
            self._statistics.update(assignment.matched_idxs, gt.gt_boxes.area() * scale**2)
        if not has_event_storage():
            return
        storage = get_event_storage()
        if (storage.iter + 1) % STATISTICS_PERIOD == 0:
            for name, value in self._statistics.compute_and_reset().items():
                storage.put_scalar(f"assign/{name}", value, smoothing_hint=False)

    def forward_inference(
        self, batched_inputs: list[dict], images: ImageList, predictions: DensePredictions
    ) -> list[dict]:
        """Detections of each image of the batch, in the size that its input asks for."""
        results = []
        for i, (x, size) in enumerate(zip(batched_inputs, images.image_sizes, strict=True)):
            height, width = (int(side) for side in size)
            detections = postprocess_single_image(
                *predictions.for_image(i, self.level_strides),
                score_thresh=self.test_score_thresh,
                topk_candidates=self.test_topk_candidates,
                nms_thresh=self.test_nms_thresh,
                max_detections=self.max_detections_per_image,
                image_size=(height, width),
            )
            instances = Instances((height, width))
            instances.pred_boxes = Boxes(detections.boxes)
            instances.scores = detections.scores
            instances.pred_classes = detections.classes
            instances = detector_postprocess(
                instances, x.get("height", height), x.get("width", width)
            )
            results.append({"instances": instances})
        return results
