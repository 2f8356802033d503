"""A whole T-head next to MMDetection's on a scene, for :mod:`tools.reference.fuzz`.

Both get the same weights, features and ground truth, in float64. Compared are scores, boxes, the
losses of both phases with their gradients, and detections.
"""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from torch import Tensor

from tood.checkpoint.key_mapping import to_tood_keys
from tood.config import add_tood_config
from tood.modeling.core_args import core_args
from tood.modeling.dense_detector import DenseDetectorCore
from tood.modeling.structures import ImageDetections
from tools.reference.fuzz.assigners import (
    Differences,
    explain_by_ties,
    relative_difference,
    scene_ties,
)
from tools.reference.fuzz.mmdet_head import (
    ATSS_TOPK,
    PHASES,
    HeadOptions,
    HeadOutputs,
    build_reference,
    load_recipe,
    random_options,
    reference_detections,
    run_reference,
)
from tools.reference.fuzz.scenes import SIZE_DIVISOR, Scene, random_scene

# Relative, and 1e-9 for numbers around 0. MMDetection divides losses by (1 + 1.2e-7); see
# docs/background/decisions.md.
TOLERANCE = 1e-8
LOSS_TOLERANCE = 2e-7

CLASS_OFFSETS = (
    "MMCV separates the classes in NMS by the largest coordinate, so that boxes with negative ones "
    "can meet those of another class"
)


def check_head(generator: torch.Generator, max_objects: int) -> tuple[Scene, Differences]:
    """Compare the heads on a random scene.

    Args:
        generator: decides everything.
        max_objects: in an image.

    Returns:
        The scene, and what differs: a description each, and why, or "".
    """
    scene, options = random_scene(generator, 3, max_objects, 128), random_options(generator)
    reference = build_reference(scene, options)
    load_recipe(reference, int(torch.randint(1 << 30, (), generator=generator)))
    core = _build_candidate(scene, options)
    weights = {f"bbox_head.{key}": value for key, value in reference.state_dict().items()}
    converted, _ = to_tood_keys(weights, "mmdet")
    core.head.load_state_dict({k.removeprefix("head."): v for k, v in converted.items()})
    core.head.to(torch.get_default_dtype())
    features = [
        torch.randn(len(scene.image_sizes), options.channels, *shape, generator=generator)
        for shape in scene.level_shapes
    ]
    ours = _run_candidate(core, scene, features)
    theirs = run_reference(reference, scene, features)
    found = list(_compare(ours, theirs))
    tie = ""
    if any(map(_is_of_warmup, found)):
        tie = _explain_warmup(core, reference, scene, features)
    differences = [(what, tie if _is_of_warmup(what) else "") for what in found]
    return scene, [*differences, *_compare_detections(reference, scene, ours, theirs)]


def _is_of_warmup(difference: str) -> bool:
    return difference.startswith("warmup")


def _explain_warmup(
    core: DenseDetectorCore, reference: Any, scene: Scene, features: list[Tensor]
) -> str:
    """The tie that a difference of the warm-up phase comes from; "" if it is none."""

    def differs(rest: Scene) -> bool:
        theirs = run_reference(reference, rest, features)
        return any(map(_is_of_warmup, _compare(_run_candidate(core, rest, features), theirs)))

    return explain_by_ties(scene, scene_ties(scene, ATSS_TOPK), differs)


def _build_candidate(scene: Scene, options: HeadOptions) -> DenseDetectorCore:
    cfg: CfgNode = get_cfg()
    add_tood_config(cfg)
    node, names = cfg.MODEL.TOOD, [f"p{i}" for i in range(len(scene.strides))]
    node.IN_FEATURES, node.NUM_CLASSES = names, scene.num_classes
    node.ANCHOR_TYPE, node.HEAD.CHANNELS = options.anchor_type, options.channels
    node.HEAD.NUM_CONVS, node.HEAD.NUM_DCN = options.num_convs, options.num_dcn
    node.SCORE_THRESH_TEST, node.TOPK_CANDIDATES_TEST = options.score_thresh, options.topk
    node.NMS_THRESH_TEST, cfg.TEST.DETECTIONS_PER_IMAGE = (
        options.nms_thresh,
        options.max_detections,
    )
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[8.0 * stride] for stride in scene.strides]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[1.0]]
    shapes = {
        name: ShapeSpec(channels=options.channels, stride=stride)
        for name, stride in zip(names, scene.strides, strict=True)
    }
    return DenseDetectorCore(**core_args(cfg, shapes))


def _run_candidate(core: DenseDetectorCore, scene: Scene, features: list[Tensor]) -> HeadOutputs:
    losses: dict[str, Tensor] = {}
    gradients: dict[str, list[Tensor]] = {}
    for phase in PHASES:
        core.train().set_phase(phase)
        leaves = [level.clone().requires_grad_() for level in features]
        named = dict(zip(core.head_in_features, leaves, strict=True))
        grid, predictions = core.predict(named)
        sums = core.loss_sums(
            grid, predictions, scene.ground_truth, scene.image_sizes, SIZE_DIVISOR
        )
        found = core.normalize_losses(sums)
        gradients[phase] = list(torch.autograd.grad(sum(found.values()), leaves))
        losses.update({f"{phase}/{name}": loss.detach() for name, loss in found.items()})
    with torch.no_grad():
        _, predictions = core.eval().predict(
            dict(zip(core.head_in_features, features, strict=True))
        )
        detections = core.detect(predictions, [None] * len(scene.image_sizes))
    return HeadOutputs(predictions.scores, predictions.boxes, losses, gradients, detections)


def _compare(ours: HeadOutputs, theirs: HeadOutputs) -> Iterable[str]:
    """Everything but the detections."""
    for name in ("scores", "boxes"):
        error = _largest(map(_difference, getattr(ours, name), getattr(theirs, name)))
        if not error <= TOLERANCE:
            yield f"{name} differ by {error:.0e}"
    for name, expected in theirs.losses.items():
        error = _difference(ours.losses[name], expected)
        if not error <= LOSS_TOLERANCE:
            yield f"{name} is {ours.losses[name]:.9g}, not {expected:.9g}"
    for phase, levels in theirs.gradients.items():
        ours_flat, flat = (
            torch.cat([x.flatten() for x in y]) for y in (ours.gradients[phase], levels)
        )
        error = float((ours_flat - flat).norm() / flat.norm().clamp(min=1e-9))
        if not error <= 1e-6:
            yield f"{phase} gradients differ by {error:.0e} of their norm"


def _compare_detections(
    head: Any, scene: Scene, ours: HeadOutputs, theirs: HeadOutputs
) -> Differences:
    problem = _detections_differ(ours.detections, theirs.detections)
    if not problem:
        return []
    strides = scene.strides
    boxes = [level / stride for level, stride in zip(theirs.boxes, strides, strict=True)]
    cfg = copy.deepcopy(head.test_cfg)
    cfg.nms.split_thr = 0  # one class after the other, from this number of boxes on
    exact = reference_detections(head, scene, theirs.scores, boxes, cfg)
    same = not _detections_differ(ours.detections, exact)
    return [(problem, CLASS_OFFSETS if same else "")]


def _detections_differ(ours: list[ImageDetections], theirs: list[ImageDetections]) -> str:
    for image, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        if len(a.scores) != len(b.scores):
            return f"image {image}: {len(a.scores)} detections, not {len(b.scores)}"
        if not torch.equal(a.classes, b.classes):
            return f"image {image}: other classes of detections"
        error = _largest([_difference(a.boxes, b.boxes), _difference(a.scores, b.scores)])
        if not error <= TOLERANCE:
            return f"image {image}: detections differ by {error:.0e}"
    return ""


def _largest(values: Iterable[float]) -> float:
    """Of numbers; NaN if one is, which Python's ``max`` may overlook."""
    return float(torch.tensor(list(values)).max())


def _difference(values: Tensor, expected: Tensor) -> float:
    """Relative to values above 1, absolute below."""
    return relative_difference(values, expected, least=1)
