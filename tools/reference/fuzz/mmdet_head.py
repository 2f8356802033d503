"""MMDetection's T-head on a random scene, for :mod:`tools.reference.fuzz.heads`."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tood.modeling.structures import ImageDetections
from tools.reference.fuzz.scenes import Scene
from tools.reference.mmdet import convert_priors
from tools.reference.recipe import recipe_tensor

PHASES = ("warmup", "aligned")
ATSS_TOPK = 9


@dataclass(frozen=True)
class HeadOptions:
    """What varies besides the scene."""

    num_convs: int
    num_dcn: int
    channels: int
    anchor_type: str
    score_thresh: float
    topk: int
    nms_thresh: float
    max_detections: int


@dataclass(frozen=True)
class HeadOutputs:
    """Of one of the two heads."""

    scores: list[Tensor]
    boxes: list[Tensor]
    losses: dict[str, Tensor]
    gradients: dict[str, list[Tensor]]
    detections: list[ImageDetections]


def random_options(generator: torch.Generator) -> HeadOptions:
    """Draw the options of a case."""

    def choose(*values: Any) -> Any:
        return values[int(torch.randint(len(values), (), generator=generator))]

    num_convs = choose(1, 2, 3, 6)
    return HeadOptions(
        num_convs=num_convs,
        num_dcn=choose(0, 0, 1, num_convs),
        channels=choose(64, 96),
        anchor_type=choose("anchor_free", "anchor_based"),
        score_thresh=choose(0.0, 0.05, 0.3, 0.6),
        topk=choose(1, 10, 100, 1000),
        nms_thresh=choose(0.3, 0.5, 0.6, 0.9),
        max_detections=choose(1, 10, 100, 300),
    )


def build_reference(scene: Scene, options: HeadOptions) -> Any:
    """Build MMDetection's head of a scene, in PyTorch's default dtype."""
    from mmengine.config import ConfigDict
    from mmengine.registry import MODELS

    head = MODELS.build(
        ConfigDict(
            type="TOODHead",
            num_classes=scene.num_classes,
            in_channels=options.channels,
            feat_channels=options.channels,
            stacked_convs=options.num_convs,
            num_dcn=options.num_dcn,
            anchor_type=options.anchor_type,
            norm_cfg={"type": "GN", "num_groups": 32, "requires_grad": True},
            anchor_generator={
                "type": "AnchorGenerator", "ratios": [1.0], "octave_base_scale": 8,
                "scales_per_octave": 1, "strides": scene.strides,
            },
            bbox_coder={
                "type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4,
                "target_stds": [0.1, 0.1, 0.2, 0.2],
            },
            initial_loss_cls={
                "type": "FocalLoss", "use_sigmoid": True, "activated": True, "gamma": 2.0,
                "alpha": 0.25, "loss_weight": 1.0,
            },
            loss_cls={
                "type": "QualityFocalLoss", "use_sigmoid": True, "activated": True, "beta": 2.0,
                "loss_weight": 1.0,
            },
            loss_bbox={"type": "GIoULoss", "loss_weight": 2.0},
            train_cfg={
                "initial_epoch": 4, "initial_assigner": {"type": "ATSSAssigner", "topk": ATSS_TOPK},
                "assigner": {"type": "TaskAlignedAssigner", "topk": 13}, "alpha": 1, "beta": 6,
                "allowed_border": -1, "pos_weight": -1, "debug": False,
            },
            test_cfg={
                "nms_pre": options.topk, "min_bbox_size": 0, "score_thr": options.score_thresh,
                "nms": {"type": "nms", "iou_threshold": options.nms_thresh},
                "max_per_img": options.max_detections,
            },
        )
    )  # fmt: skip
    convert_priors(head.prior_generator, torch.get_default_dtype())
    return head.to(torch.get_default_dtype())


def load_recipe(head: Any, seed: int) -> None:
    """Random weights with which every part of the head matters."""
    weights = {
        key: torch.from_numpy(recipe_tensor(f"{seed}.bbox_head.{key}", value.shape))
        for key, value in head.state_dict().items()
    }
    head.load_state_dict(weights)


def _metas(scene: Scene) -> list[dict]:
    return [
        {"img_shape": size, "pad_shape": padded, "scale_factor": (1, 1)}
        for size, padded in zip(scene.image_sizes, scene.padded_sizes, strict=True)
    ]


def run_reference(head: Any, scene: Scene, features: list[Tensor]) -> HeadOutputs:
    """Losses and gradients of both phases, maps and detections.

    Args:
        head: of :func:`build_reference`.
        scene: the batch.
        features: per level (N, C, Hi, Wi).
    """
    from mmengine import MessageHub
    from mmengine.structures import InstanceData

    hub = MessageHub.get_instance("tood_reference")
    losses: dict[str, Tensor] = {}
    gradients: dict[str, list[Tensor]] = {}
    for phase in PHASES:
        hub.update_info("epoch", 0 if phase == "warmup" else head.initial_epoch)
        leaves = [level.clone().requires_grad_() for level in features]
        truth = [InstanceData(bboxes=gt.boxes, labels=gt.classes) for gt in scene.ground_truth]
        found = head.train().loss_by_feat(*head(leaves), truth, _metas(scene))
        total = {"loss_cls": sum(found["loss_cls"]), "loss_box_reg": sum(found["loss_bbox"])}
        gradients[phase] = list(torch.autograd.grad(sum(total.values()), leaves))
        losses.update({f"{phase}/{name}": loss.detach() for name, loss in total.items()})
    with torch.no_grad():
        scores, boxes = head.eval()(features)
    pixels = [level * s for level, s in zip(boxes, scene.strides, strict=True)]
    detections = reference_detections(head, scene, list(scores), list(boxes), head.test_cfg)
    return HeadOutputs(list(scores), pixels, losses, gradients, detections)


def reference_detections(
    head: Any, scene: Scene, scores: list[Tensor], boxes: list[Tensor], cfg: Any
) -> list[ImageDetections]:
    """Detections from maps.

    Args:
        head: of :func:`build_reference`.
        scene: the batch.
        scores: per level (N, K, Hi, Wi).
        boxes: per level (N, 4, Hi, Wi), in strides.
        cfg: MMDetection's config of post-processing.
    """
    with torch.no_grad():
        found = head.predict_by_feat(
            scores, boxes, batch_img_metas=_metas(scene), cfg=cfg, rescale=False
        )
    return [ImageDetections(x.bboxes, x.scores, x.labels) for x in found]
