"""Assigners and losses of the ablations next to MMDetection's, for :mod:`tools.reference.fuzz`.

MMDetection's ATSS, FCOS (with its improvements), FoveaBox and GFL heads (without the distribution
focal loss, so QFL) get the outputs of their last convolutions; so does this project's box coding,
with the assigner and the criterion of the same rule.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tood.modeling.assigners import Assigner, ATSSAssigner, FCOSAssigner, FoveaBoxAssigner
from tood.modeling.box_ops import (
    box_centers,
    centerness,
    distances_to_boxes,
)
from tood.modeling.criteria import (
    CenternessFocalCriterion,
    FoveaBoxCriterion,
    QualityFocalCriterion,
)
from tood.modeling.heads.box_coding import Scale, decode_boxes
from tood.modeling.structures import (
    AnchorGrid,
    DenseTargets,
    FlatPredictions,
    flatten_levels,
)
from tood.modeling.targets import compute_targets
from tools import STRIDES
from tools.reference.fuzz.assigners import Differences, explanations, ties_of_rule
from tools.reference.fuzz.scenes import SIZE_DIVISOR, Scene, random_scene
from tools.reference.mmdet import convert_priors
from tools.reference.write_golden import ABLATIONS as MMDET_ABLATIONS
from tools.reference.write_golden import make_head

# MMDetection's names of the losses -> ours.
LOSS_NAMES = {
    "loss_cls": "loss_cls",
    "loss_bbox": "loss_box_reg",
    "loss_centerness": "loss_centerness",
}
# MMDetection divides losses by (1 + 1.2e-7); see docs/background/decisions.md.
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 5e-7, 1e-6
NUM_BINS = 17  # of GFL's distributions
EMPTY_IMAGES = "MMDetection's ATSS and GFL heads count an image without positives as one positive"
SMALL_SUMS = "MMDetection's FCOS head divides the box loss by sums of centerness below 1"

Maps = dict[str, list[Tensor]]
# Losses, and gradients by kind of map.
Outputs = tuple[dict[str, Tensor], dict[str, Tensor]]


@dataclass(frozen=True)
class Ablation:
    """One rule, as this project computes it.

    Attributes:
        coding: an anchor type, or "distances" for the means of GFL's distributions.
        offset: of the points in their cells, in strides.
        assigner: matches points to ground truths.
        criterion: the losses.
        box_weight: of the box loss.
        scale: factor of the regression output; FoveaBox's distances are in units of two strides.
    """

    coding: str
    offset: float
    assigner: Assigner
    criterion: Any
    box_weight: float
    scale: float = 1.0


ABLATIONS = {
    "ATSS": Ablation("anchor_based", 0.0, ATSSAssigner(), CenternessFocalCriterion(), 2.0),
    "FCOS": Ablation("anchor_free_linear", 0.5, FCOSAssigner(), CenternessFocalCriterion(), 1.0),
    "FoveaBox": Ablation("anchor_free", 0.5, FoveaBoxAssigner(), FoveaBoxCriterion(), 1.0, 2.0),
    "QFL": Ablation("distances", 0.0, ATSSAssigner(), QualityFocalCriterion(), 2.0),
}


def decode(
    ablation: Ablation,
    levels: list[Tensor],
    anchors: list[Tensor],
) -> Tensor:
    """Decode boxes like the head of an ablation.

    Args:
        ablation: an entry of :data:`ABLATIONS`.
        levels: per level the regression output (N, 4, Hi, Wi).
        anchors: per level (Hi * Wi, 4) pixels.

    Returns:
        (N, R, 4) pixels.
    """
    boxes = []
    for level, own, stride in zip(levels, anchors, STRIDES, strict=True):
        if ablation.coding == "distances":
            distances = level.flatten(2).transpose(1, 2)
            boxes.append(distances_to_boxes(box_centers(own) / stride, distances) * stride)
            continue
        scale = Scale().to(level.dtype)
        scale.scale.data.fill_(ablation.scale)
        decoded = decode_boxes(level, own, scale, stride, ablation.coding)
        boxes.append(flatten_levels([decoded]) * stride)
    return torch.cat(boxes, dim=1)


def check_ablation(generator: torch.Generator, max_objects: int) -> tuple[Scene, Differences]:
    """Compare losses and gradients of one rule on a random scene of P3 to P7.

    Args:
        generator: decides the rule and the scene.
        max_objects: in an image.

    Returns:
        The scene, and what differs: a description each, and why, or "".
    """
    name = list(ABLATIONS)[int(torch.randint(len(ABLATIONS), (), generator=generator))]
    drawn = random_scene(generator, 3, max_objects, 160)
    # FCOS's and FoveaBox's own heads assign the padding of a batch too: images of one size.
    sizes = [drawn.image_sizes[0]] * len(drawn.image_sizes)
    scene = Scene(STRIDES, sizes, drawn.num_classes, drawn.ground_truth, drawn.box_kinds)
    maps = _random_maps(name, scene, generator)
    ours, _ = _run_candidate(name, scene, maps)
    differences = list(_compare(ours, _run_reference(name, scene, maps)))
    if not differences:
        return scene, []
    reason = _explain(name, scene, maps)
    return scene, [(f"{name}: {what}", reason) for what in differences]


def _explain(name: str, scene: Scene, maps: Maps) -> str:
    """What the differences come from: without it there are none; "" if nothing was found."""
    nothing: list[set[int]] = [set() for _ in scene.ground_truth]
    for reason, objects in [("", nothing), *explanations(ties_of_rule(name, scene))]:
        rest = scene.without(objects)
        theirs = _run_reference(name, rest, maps)
        ours, targets = _run_candidate(name, rest, maps)
        if not any(_compare(ours, theirs)):
            return reason
        factors, normalizers = _other_normalizers(name, targets)
        if not any(_compare(ours, _multiply(theirs, factors))):
            return normalizers
    return ""


def _random_maps(name: str, scene: Scene, generator: torch.Generator) -> Maps:
    """Outputs of the last convolutions, by name and level."""
    shapes, num_images = scene.level_shapes, len(scene.image_sizes)

    def draw(channels: int) -> list[Tensor]:
        return [torch.randn(num_images, channels, *x, generator=generator) for x in shapes]

    maps = {
        "cls": [level - 2 for level in draw(scene.num_classes)],
        "reg": [
            0.3 * level + (name != "ATSS") for level in draw(4 * NUM_BINS if name == "QFL" else 4)
        ],
    }
    if name in ("ATSS", "FCOS"):
        maps["centerness"] = draw(1)
    return maps


@functools.cache
def _reference_head(name: str) -> Any:
    head = make_head(MMDET_ABLATIONS[name][0]).to(torch.float64)
    convert_priors(head.prior_generator, torch.float64)
    return head


def _run_reference(name: str, scene: Scene, maps: Maps) -> Outputs:
    from mmengine.structures import InstanceData

    head = _reference_head(name)
    head.num_classes = head.cls_out_channels = scene.num_classes
    leaves = _leaves(maps)
    inputs = dict(leaves)
    if name == "FCOS":  # its forward() clamps after the last convolution
        inputs["reg"] = [level.clamp(min=0) for level in leaves["reg"]]
    truth = [InstanceData(bboxes=gt.boxes, labels=gt.classes) for gt in scene.ground_truth]
    if name == "FoveaBox":  # see docs/background/decisions.md
        truth = [x[_touches(x.bboxes, *scene.padded_sizes[0])] for x in truth]
    metas = [
        {"img_shape": size, "pad_shape": padded}
        for size, padded in zip(scene.image_sizes, scene.padded_sizes, strict=True)
    ]
    losses = head.loss_by_feat(*inputs.values(), truth, metas)
    losses.pop("loss_dfl", None)
    return _outputs(
        {
            LOSS_NAMES[key]: sum(loss) if isinstance(loss, list) else loss
            for key, loss in losses.items()
        },
        leaves,
    )


def _touches(boxes: Tensor, height: int, width: int) -> Tensor:
    """Which boxes (M, 4) have a part in an image."""
    size = boxes.new_tensor([width, height])
    return ((boxes[:, 2:] > 0) & (boxes[:, :2] < size)).all(1)


def _run_candidate(name: str, scene: Scene, maps: Maps) -> tuple[Outputs, DenseTargets]:
    ablation = ABLATIONS[name]
    anchors = _anchors(ablation, scene)
    leaves = _leaves(maps)
    regression = leaves["reg"]
    if name == "QFL":
        bins = torch.arange(NUM_BINS, dtype=torch.get_default_dtype())
        distributions = [level.unflatten(1, (4, NUM_BINS)).softmax(2) for level in regression]
        regression = [torch.einsum("nsbhw,b->nshw", level, bins) for level in distributions]
    branch = leaves.get("centerness")
    flat = FlatPredictions(
        flatten_levels(leaves["cls"]).sigmoid(),
        decode(ablation, regression, anchors),
        None if branch is None else flatten_levels(branch).sigmoid(),
    )
    grid = AnchorGrid.from_levels(anchors, scene.level_shapes, STRIDES)
    targets, _ = compute_targets(
        ablation.assigner, flat, grid, scene.image_sizes, SIZE_DIVISOR, scene.ground_truth
    )
    sums = ablation.criterion(flat, targets)
    weights = {"loss_box_reg": ablation.box_weight}
    losses = {
        key: loss.total / loss.normalizer.clamp(min=1) * weights.get(key, 1.0)
        for key, loss in sums.items()
    }
    return _outputs(losses, leaves), targets


def _leaves(maps: Maps) -> Maps:
    return {key: [x.clone().requires_grad_() for x in levels] for key, levels in maps.items()}


def _outputs(losses: dict[str, Tensor], leaves: Maps) -> Outputs:
    """The losses, and the gradients of their sum by kind of map."""
    flat = [level for levels in leaves.values() for level in levels]
    total = torch.stack(list(losses.values())).sum()
    found = iter(torch.autograd.grad(total, flat, materialize_grads=True))
    gradients = {
        key: torch.cat([next(found).flatten() for _ in levels]) for key, levels in leaves.items()
    }
    return {key: loss.detach() for key, loss in losses.items()}, gradients


def _anchors(ablation: Ablation, scene: Scene) -> list[Tensor]:
    return [
        level + ablation.offset * stride
        for level, stride in zip(scene.anchors(), STRIDES, strict=True)
    ]


def _other_normalizers(name: str, targets: DenseTargets) -> tuple[dict[str, float], str]:
    """Where MMDetection divides by something else: factors by kind of map, and what it does."""
    positive = (targets.gt_boxes != 0).any(-1)  # background has zeros
    counts = positive.sum(1)
    if name in ("ATSS", "QFL"):
        factor = float(counts.clamp(min=1).sum() / counts.sum().clamp(min=1))
        return {"cls": factor, "centerness": factor}, EMPTY_IMAGES
    if name == "FCOS":
        weights = centerness(targets.centers, targets.gt_boxes)[positive].sum()
        # The reference adds the epsilon of float32 to whatever it divides by.
        return {"reg": float(weights.clamp(1e-6, 1)) + 1.2e-7}, SMALL_SUMS
    return {}, ""


def _multiply(outputs: Outputs, factors: dict[str, float]) -> Outputs:
    """Losses and gradients times the factors of their kinds of map."""
    losses, gradients = outputs
    kinds = {"loss_cls": "cls", "loss_box_reg": "reg", "loss_centerness": "centerness"}
    return (
        {name: loss * factors.get(kinds[name], 1.0) for name, loss in losses.items()},
        {name: gradient * factors.get(name, 1.0) for name, gradient in gradients.items()},
    )


def _compare(ours: Outputs, theirs: Outputs) -> Iterator[str]:
    for name, expected in theirs[0].items():
        loss = ours[0][name]
        if not (loss - expected).abs() <= LOSS_TOLERANCE * expected.abs().clamp(min=1e-3):
            yield f"{name} is {loss:.9g}, not {expected:.9g}"
    for name, expected in theirs[1].items():
        error = (ours[1][name] - expected).norm() / expected.norm().clamp(min=1e-9)
        if not error <= GRADIENT_TOLERANCE:
            yield f"the gradient of {name} differs by {error:.0e} of its norm"
