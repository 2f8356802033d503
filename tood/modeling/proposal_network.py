"""TOOD as detectron2's proposal generator: the first stage of a two-stage detector.

Shapes: **N** images, **P** proposals of one image, **K** classes. Boxes (x1, y1, x2, y2) in pixels
of the network's input.
"""

import itertools
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor

from ..config.validation.two_stage import KNOWN_ROI_HEADS, builds_roi_heads
from ..errors import ConfigError
from .core_args import core_args, validate_config
from .dense_detector import DenseDetectorCore
from .ground_truth import to_ground_truth
from .postprocessing import postprocess_single_image
from .profiling import profiler_range
from .small_maps import explain_small_maps
from .structures import DensePredictions, GroundTruth, ImageDetections

# Keeps logits finite. detectron2 appends ground truth with a logit of 23, which is above all others
# with it: those end at 13.8.
_LOGIT_EPS = 1e-6


def proposal_loss_name(name: str) -> str:
    """The name of a loss in a two-stage model, whose second stage has a "loss_cls" too.

    detectron2's GeneralizedRCNN would overwrite that silently.
    """
    return name.replace("loss_", "loss_tood_", 1)


@PROPOSAL_GENERATOR_REGISTRY.register()
class TOODProposalNetwork(DenseDetectorCore):
    """Proposals of a dense detector, with detectron2's contract of a proposal generator.

    It has the same parts as the meta-architecture :class:`~tood.modeling.TOOD`, and on the same
    weights and images the same losses, under the names ``loss_tood_cls``, ``loss_tood_box_reg`` and
    ``loss_tood_centerness``. It does not see the images before they were resized: the sizes in its
    assignment statistics are those of the network's input.

    Args:
        class_agnostic: learn one class; ground truth of all classes is this one.
        num_gt_classes: classes that the ground truth has.
        pre_nms_topk: maximum number of candidates per level, in training and in evaluation.
        post_nms_topk: maximum number of proposals per image, likewise.
        nms_thresh: proposals with a larger IoU suppress each other, likewise.
        size_divisor: the backbone's divisor of sizes.
        **core: see :class:`DenseDetectorCore`. With ``class_agnostic``, its ``num_classes`` is 1.
    """

    @configurable
    def __init__(
        self,
        *,
        class_agnostic: bool,
        num_gt_classes: int,
        pre_nms_topk: tuple[int, int],
        post_nms_topk: tuple[int, int],
        nms_thresh: tuple[float, float],
        size_divisor: int,
        loss_weights: dict[str, float],
        **core: Any,
    ) -> None:
        weights = {proposal_loss_name(name): value for name, value in loss_weights.items()}
        super().__init__(loss_weights=weights, **core)
        self.class_agnostic = class_agnostic
        self.num_gt_classes = num_gt_classes
        self.pre_nms_topk = pre_nms_topk
        self.post_nms_topk = post_nms_topk
        self.nms_thresh = nms_thresh
        self.size_divisor = size_divisor

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Build the parts and collect the constructor's arguments.

        Args:
            cfg: the config.
            input_shape: of the backbone's maps, by name.

        Raises:
            ConfigError: keys or values of ``cfg.MODEL.TOOD`` that do not exist or do not fit.
        """
        validate_config(cfg)
        if builds_roi_heads(cfg) and cfg.MODEL.ROI_HEADS.NAME in KNOWN_ROI_HEADS:
            _validate_pooled_maps(cfg, input_shape)
        num_gt_classes, node = cfg.MODEL.TOOD.NUM_CLASSES, cfg.MODEL.TOOD.PROPOSALS
        if node.CLASS_AGNOSTIC:
            cfg = cfg.clone()
            cfg.defrost()
            cfg.MODEL.TOOD.NUM_CLASSES = 1
        return {
            "class_agnostic": node.CLASS_AGNOSTIC,
            "num_gt_classes": num_gt_classes,
            "pre_nms_topk": (node.PRE_NMS_TOPK_TRAIN, node.PRE_NMS_TOPK_TEST),
            "post_nms_topk": (node.POST_NMS_TOPK_TRAIN, node.POST_NMS_TOPK_TEST),
            "nms_thresh": (node.NMS_THRESH_TRAIN, node.NMS_THRESH_TEST),
            "size_divisor": node.SIZE_DIVISOR,
            **core_args(cfg, input_shape),
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        gt_instances: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Generate proposals, and compute losses in training mode.

        Args:
            images: a batch; only its sizes are read.
            features: maps (N, C, Hi, Wi) of the backbone, by name.
            gt_instances: for each image the ground truth (training): gt_boxes and gt_classes.

        Returns:
            For each image Instances with proposal_boxes (P, 4) and objectness_logits (P,), best
            first and without gradients; and the weighted losses by name, none in eval mode.

        Raises:
            ValueError: ground truth is missing in training mode.
            DataError: a class of the ground truth does not exist. On a GPU, where detectron2 has
                moved it, that is an assertion of the device.
            ConfigError: an image is too small for a normalization, or the batch was not padded to
                multiples of ``size_divisor``.
        """
        self._require_padding(images)
        with explain_small_maps(images), profiler_range("tood/head"):
            grid, predictions = self.predict(features)
        losses: dict[str, Tensor] = {}
        if self.training:
            if gt_instances is None:
                raise ValueError("Training mode needs gt_instances. Call eval() for inference.")
            ground_truth = [self._to_ground_truth(x, predictions) for x in gt_instances]
            sums = self.loss_sums(
                grid, predictions, ground_truth, images.image_sizes, self.size_divisor
            )
            # Renamed before they are normalized, so that each keeps its normalizer.
            renamed = {proposal_loss_name(name): loss for name, loss in sums.items()}
            losses = self.normalize_losses(renamed)
        with profiler_range("tood/proposals"):
            return self.generate_proposals(predictions, images.image_sizes), losses

    def _require_padding(self, images: ImageList) -> None:
        """Raise a ConfigError if the backbone pads to another multiple than ``size_divisor``.

        Where an image ends depends on it, and with that which points can be positive.
        """
        size = tuple(images.tensor.shape[-2:])
        if any(side % self.size_divisor for side in size):
            raise ConfigError(
                f"MODEL.TOOD.PROPOSALS.SIZE_DIVISOR is {self.size_divisor}, but the batch has "
                f"{size[1]}x{size[0]} pixels: the backbone pads images to other multiples. Set it "
                "to the backbone's size_divisibility."
            )

    @torch.no_grad()
    def generate_proposals(
        self, predictions: DensePredictions, image_sizes: list[tuple[int, int]]
    ) -> list[Instances]:
        """Proposals of each image of a batch.

        A point's score is that of its best class, and NMS is over all classes.

        Args:
            predictions: of :meth:`predict`.
            image_sizes: (height, width) of each image, to clip to.

        Returns:
            For each image Instances with proposal_boxes and objectness_logits, best first.
        """
        mode = 0 if self.training else 1
        proposals = []
        for index, image_size in enumerate(image_sizes):
            scores, boxes, centerness = predictions.for_image(index)
            found = postprocess_single_image(
                [level.amax(dim=1, keepdim=True) for level in scores],
                boxes,
                centerness,
                score_thresh=0.0,
                topk_candidates=self.pre_nms_topk[mode],
                nms_thresh=self.nms_thresh[mode],
                max_detections=self.post_nms_topk[mode],
                image_size=image_size,
            )
            proposals.append(_to_proposals(found, image_size))
        return proposals

    def _to_ground_truth(self, instances: Instances, predictions: DensePredictions) -> GroundTruth:
        device = predictions.scores[0].device
        found = to_ground_truth(instances, device, self.num_gt_classes)
        if not self.class_agnostic:
            return found
        return GroundTruth(found.boxes, torch.zeros_like(found.classes), found.areas)


def _to_proposals(found: ImageDetections, image_size: tuple[int, int]) -> Instances:
    proposals = Instances(image_size)
    proposals.proposal_boxes = Boxes(found.boxes.float())
    # Scores are probabilities, but detectron2 and its ROI heads expect logits.
    proposals.objectness_logits = torch.logit(found.scores.float(), eps=_LOGIT_EPS)
    return proposals


def _validate_pooled_maps(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
    """Raise a ConfigError if detectron2's ROI heads cannot pool from the maps that they name."""
    key, names = "MODEL.ROI_HEADS.IN_FEATURES", list(cfg.MODEL.ROI_HEADS.IN_FEATURES)
    missing = [name for name in names if name not in input_shape]
    if missing:
        available = sorted(input_shape, key=lambda name: input_shape[name].stride or 0)
        raise ConfigError(
            f"{key} lists {missing}, which the backbone {cfg.MODEL.BACKBONE.NAME} does not "
            f"produce. Available: {', '.join(available)}. An FPN has p2 if "
            "MODEL.RESNETS.OUT_FEATURES and MODEL.FPN.IN_FEATURES have res2."
        )
    strides = [input_shape[name].stride for name in names]
    # detectron2 compares the first and the last only.
    if any(2 * a != b for a, b in itertools.pairwise(strides)):
        raise ConfigError(
            f"{key} is {names}, with the strides {strides}, but each has to be twice the one "
            "before it. List neighboring maps, the finest first."
        )
