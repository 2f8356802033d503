"""This project's assigners next to MMDetection's on a scene, for :mod:`tools.reference.fuzz`.

Computed in float64, where rounding decides nothing but ties. Where values are equal, the reference
takes what ``topk`` happens to return. Differences are explained by such a tie if there are none
without the objects that have one.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from tood.modeling.assigners import ATSSAssigner, TaskAlignedAssigner
from tood.modeling.box_ops import box_area, box_centers, box_iou, is_usable_box
from tood.modeling.structures import AssignerInput, GroundTruth
from tools.reference.fuzz.scenes import Scene, random_scene

# Values that differ by less than this, relatively, are a tie.
TIE = 1e-9

TIE_AT_TOPK = "equal values at the border of the k best: which of them count is not defined"
TIE_AT_THRESHOLD = "an IoU is equal to ATSS's threshold but for rounding"
CENTRAL_BORDER = "a point is on the border of FoveaBox's central region but for rounding"
EQUAL_AREAS = "boxes of equal areas: which of them owns a point is not defined"
SINGLE_CANDIDATE = "a single ATSS candidate: the reference's standard deviation is NaN"

Differences = list[tuple[str, str]]


def check_atss(generator: torch.Generator, max_objects: int) -> tuple[Scene, Differences]:
    """Compare ATSS on the first image of a random scene.

    Args:
        generator: decides the scene, and ``topk``.
        max_objects: in the image.

    Returns:
        The scene, and what differs: a description each, and why, or "".
    """
    scene = random_scene(generator, 1, max_objects, 320)
    topk = int(torch.randint(1, 21, (), generator=generator))
    inputs = AssignerInput.from_anchors(scene.anchors(), scene.strides)
    assigner, reference = ATSSAssigner(topk), _reference("ATSSAssigner", topk)

    def assign(gt: GroundTruth) -> tuple[Tensor, Tensor]:
        theirs = reference.assign(
            _instances(priors=inputs.anchors), inputs.num_anchors_per_level, _instances_of(gt)
        )
        return assigner.assign(inputs, gt.boxes, gt.classes).matched_idxs, theirs.gt_inds - 1

    ours, theirs = assign(scene.ground_truth[0])
    differences = _describe(ours, theirs)
    if not differences:
        return scene, []
    ties = atss_ties(inputs, scene.ground_truth[0].boxes, topk)
    if set(ties.values()) == {SINGLE_CANDIDATE}:
        is_nan = not (theirs >= 0).any() and _are_inside(ours, inputs, scene.ground_truth[0].boxes)
        reason = SINGLE_CANDIDATE if is_nan else ""
    else:
        reason = explain_by_ties(
            scene, [ties], lambda rest: bool(_describe(*assign(rest.ground_truth[0])))
        )
    return scene, [(what, reason) for what in differences]


def check_tal(generator: torch.Generator, max_objects: int) -> tuple[Scene, Differences]:
    """Compare task alignment learning likewise, with its metrics; see :func:`check_atss`."""
    scene = random_scene(generator, 1, max_objects, 320)
    topk = int(torch.randint(1, 31, (), generator=generator))
    alpha = [0.5, 1, 1.5][int(torch.randint(3, (), generator=generator))]
    beta = [2, 4, 6, 8][int(torch.randint(4, (), generator=generator))]
    inputs = _with_predictions(scene, generator)
    assigner = TaskAlignedAssigner(topk, alpha, beta)
    reference = _reference("TaskAlignedAssigner", topk)
    priors = _instances(priors=inputs.anchors, scores=inputs.scores, bboxes=inputs.boxes)

    def compare(gt: GroundTruth) -> list[str]:
        found = assigner.assign(inputs, gt.boxes, gt.classes)
        theirs = reference.assign(priors, _instances_of(gt), None, alpha, beta)
        expected = theirs.gt_inds - 1
        same = (found.matched_idxs == expected) & (expected >= 0)
        error = relative_difference(
            found.alignment_metrics[same], theirs.assign_metrics[same], least=1e-30
        )
        wrong = [] if error <= 1e-9 else [f"alignment metrics differ by {error:.0e}"]
        return _describe(found.matched_idxs, expected) + wrong

    differences = compare(scene.ground_truth[0])
    reason = ""
    if differences:
        ties = _tal_ties(inputs, scene.ground_truth[0], topk, alpha, beta)
        reason = explain_by_ties(scene, [ties], lambda rest: bool(compare(rest.ground_truth[0])))
    return scene, [(what, reason) for what in differences]


ASSIGNER_CHECKS: dict[str, Callable[[torch.Generator, int], tuple[Scene, Differences]]] = {
    "ATSS": check_atss,
    "TAL": check_tal,
}


def _describe(ours: Tensor, theirs: Tensor) -> list[str]:
    """What differs between the ground truths of points; nothing if they are equal."""
    count = int((ours != theirs).sum())
    return [f"{count} points with another GT box"] if count else []


def _are_inside(matched: Tensor, inputs: AssignerInput, gt_boxes: Tensor) -> bool:
    """Whether every point with a ground truth is inside its box."""
    points = matched >= 0
    centers, boxes = inputs.centers[points], gt_boxes[matched[points]]
    return bool(((centers > boxes[:, :2]) & (centers < boxes[:, 2:])).all())


def explain_by_ties(
    scene: Scene, ties: Sequence[dict[int, str]], differs: Callable[[Scene], bool]
) -> str:
    """The tie that a difference comes from: without the objects that have one, there is none.

    Args:
        scene: with the difference.
        ties: of each image, the objects that have a tie, and which.
        differs: whether a scene with fewer objects has a difference.

    Returns:
        The reason, several joined with "; "; "" if there is a difference without them too.
    """
    for reason, objects in explanations(ties):
        if not differs(scene.without(objects)):
            return reason
    return ""


def atss_ties(inputs: AssignerInput, gt_boxes: Tensor, topk: int) -> dict[int, str]:
    """Why a ground truth's points are not defined by ATSS's rule.

    Args:
        inputs: the points of one image.
        gt_boxes: (M, 4) pixels.
        topk: of the assigner.

    Returns:
        The reason, by the index of the ground truth; most have none.
    """
    if not len(gt_boxes):
        return {}
    reasons: dict[int, str] = {}
    distances = torch.cdist(
        box_centers(gt_boxes), inputs.centers, compute_mode="donot_use_mm_for_euclid_dist"
    )
    idxs, start = [], 0
    for level in distances.split(inputs.num_anchors_per_level, dim=1):
        nearest = level.sort(dim=1, stable=True)
        k = min(topk, level.shape[1])
        if k < level.shape[1]:
            last, next_one = nearest.values[:, k - 1], nearest.values[:, k]
            for gt in (next_one - last <= TIE * (1 + last)).nonzero()[:, 0].tolist():
                reasons[gt] = TIE_AT_TOPK
        idxs.append(nearest.indices[:, :k] + start)
        start += level.shape[1]
    candidates = torch.cat(idxs, dim=1)
    if candidates.shape[1] == 1:
        return dict.fromkeys(range(len(gt_boxes)), SINGLE_CANDIDATE)
    ious = box_iou(inputs.anchors[candidates], gt_boxes[:, None])
    threshold = ious.mean(1, keepdim=True) + ious.std(1, keepdim=True)
    close = ((ious - threshold).abs() <= TIE * threshold).any(1)
    for gt in close.nonzero()[:, 0].tolist():
        reasons.setdefault(gt, TIE_AT_THRESHOLD)
    return reasons


def scene_ties(scene: Scene, topk: int) -> list[dict[int, str]]:
    """:func:`atss_ties` of each image, by the index of the object."""
    found = []
    for gt, (height, width) in zip(scene.ground_truth, scene.padded_sizes, strict=True):
        usable = is_usable_box(gt.boxes).nonzero()[:, 0].tolist()
        ties = atss_ties(scene.points_inside(height, width), gt.boxes[usable], topk)
        found.append({usable[i]: reason for i, reason in ties.items()})
    return found


def ties_of_rule(name: str, scene: Scene) -> list[dict[int, str]]:
    """Of each image, the objects whose points are not defined by a rule, and why.

    Args:
        name: "ATSS", "QFL" (which assigns likewise), "FCOS" or "FoveaBox".
        scene: with images of one size.
    """
    if name in ("ATSS", "QFL"):
        return scene_ties(scene, topk=9)
    levels = zip(scene.anchors(), scene.strides, strict=True)
    centers = torch.cat([box_centers(level) + stride / 2 for level, stride in levels])
    found = []
    for gt in scene.ground_truth:
        ties: dict[int, str] = {}
        if name == "FoveaBox":
            half = 0.4 * (gt.boxes[:, 2:] - gt.boxes[:, :2]) / 2
            for border in (box_centers(gt.boxes) - half, box_centers(gt.boxes) + half):
                near = (border[:, None] - centers).abs() <= TIE * (1 + border[:, None].abs())
                ties |= dict.fromkeys(near.any((1, 2)).nonzero()[:, 0].tolist(), CENTRAL_BORDER)
        areas = box_area(gt.boxes).tolist()
        ties |= {i: EQUAL_AREAS for i, area in enumerate(areas) if areas.count(area) > 1}
        found.append(ties)
    return found


def explanations(ties: Sequence[dict[int, str]]) -> Iterator[tuple[str, list[set[int]]]]:
    """What a difference may come from, and the objects of each image that it is about.

    Args:
        ties: of each image.

    Yields:
        Each reason, then all of them together.
    """
    reasons = sorted({reason for image in ties for reason in image.values()})
    for chosen in [*([x] for x in reasons), *([reasons] if len(reasons) > 1 else [])]:
        yield (
            "; ".join(chosen),
            [{i for i, reason in image.items() if reason in chosen} for image in ties],
        )


def _tal_ties(
    inputs: AssignerInput, gt: Any, topk: int, alpha: float, beta: float
) -> dict[int, str]:
    """Likewise for task alignment learning."""
    if not len(gt.boxes) or topk >= len(inputs.boxes):
        return {}
    ious = box_iou(gt.boxes[:, None], inputs.boxes)
    metrics = inputs.scores.t()[gt.classes] ** alpha * ious**beta
    best = metrics.topk(topk + 1, dim=1).values
    last, next_one = best[:, topk - 1], best[:, topk]
    tied = (last - next_one <= TIE * last) & (last > 0)
    return dict.fromkeys(tied.nonzero()[:, 0].tolist(), TIE_AT_TOPK)


def _with_predictions(scene: Scene, generator: torch.Generator) -> AssignerInput:
    """The scene's points with random scores, and boxes of which most are near an object."""
    base = AssignerInput.from_anchors(scene.anchors(), scene.strides)
    num_points, gt_boxes = len(base.anchors), scene.ground_truth[0].boxes
    logits = 3 * torch.randn(num_points, scene.num_classes, generator=generator) - 2
    spread = torch.rand(num_points, 4, generator=generator) * base.strides[:, None] * 4
    boxes = torch.cat([base.centers - spread[:, :2], base.centers + spread[:, 2:]], dim=1)
    if len(gt_boxes):
        matched = torch.randint(len(gt_boxes), (num_points,), generator=generator)
        noise = 1 + 0.2 * torch.randn(num_points, 4, generator=generator)
        near = torch.rand(num_points, generator=generator) < 0.7
        boxes[near] = gt_boxes[matched[near]] * noise[near]
    if scene.has_ties:
        boxes, logits = boxes.round(), logits.round()
    return AssignerInput(
        logits.sigmoid(), boxes, base.anchors, base.centers, base.strides,
        base.num_anchors_per_level,
    )  # fmt: skip


def _reference(name: str, topk: int) -> Any:
    from mmdet.registry import TASK_UTILS

    return TASK_UTILS.build({"type": name, "topk": topk})


def _instances(**fields: Tensor) -> Any:
    from mmengine.structures import InstanceData

    return InstanceData(**fields)


def _instances_of(gt: Any) -> Any:
    return _instances(bboxes=gt.boxes, labels=gt.classes)


def relative_difference(values: Tensor, expected: Tensor, least: float) -> float:
    """The largest difference of any pair, relative to the expected value; 0 for no pairs.

    Args:
        values: (...).
        expected: (...).
        least: what a difference is relative to where the expected value is smaller.
    """
    if not expected.numel():
        return 0.0
    return float(((values - expected).abs() / expected.abs().clamp(min=least)).max())
