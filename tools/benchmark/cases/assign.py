"""The cases of tools/benchmark.py for assigners."""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tood.modeling.assigners import ATSSAssigner, TaskAlignedAssigner
from tood.modeling.structures import AnchorGrid, FlatPredictions
from tood.modeling.targets import compute_targets
from tools.benchmark.harness import STRIDES, Case, Settings, ground_truth, models, shapes_of
from tools.reference.mmdet import MMDetTOOD

HEIGHT, WIDTH = 800, 1344


@dataclass
class Scene:
    """Predictions for one image, (R, K) and (R, 4) in pixels, and its points."""

    points: AnchorGrid
    scores: Tensor
    boxes: Tensor


def make_scene(points: AnchorGrid) -> Scene:
    """Boxes of 1 to 8 strides around the points, and mostly low scores, in a head's layout."""
    side = points.strides * (1 + 7 * torch.rand_like(points.centers))
    boxes = torch.cat([points.centers - side, points.centers + side], dim=1)
    return Scene(points, torch.rand(80, len(side), device=side.device).pow_(4).t(), boxes)


def assignment(settings: Settings) -> Iterator[Case]:
    """Labels of one 800x1344 image by both assigners, for each count of ground truths."""
    device, shapes = settings.device, shapes_of(HEIGHT, WIDTH)
    model, peer = models("TOOD-R50-1x", settings)
    maps = [torch.zeros(1, 1, *shape, device=device) for shape in shapes]
    anchors = [boxes.tensor for boxes in model.anchor_generator(maps)]
    scene = make_scene(AnchorGrid.from_levels(anchors, shapes, STRIDES))
    size = [(HEIGHT, WIDTH)]
    flat = FlatPredictions(scene.scores[None], (scene.boxes / scene.points.strides)[None])
    for kind, phase, assigner in (
        ("task-aligned", "aligned", TaskAlignedAssigner()),
        ("ATSS", "warmup", ATSSAssigner()),
    ):
        for count in settings.ground_truths:
            truth = ground_truth(count, HEIGHT, WIDTH, device)

            def labels(assigner=assigner, boxes=truth[0], classes=truth[1]) -> object:
                return compute_targets(assigner, flat, scene.points, size, 32, [boxes], [classes])

            name = f"{kind} assignment, {count} ground truths"
            work = 4 * len(scene.boxes) * (count + 4)
            theirs = peer and _mmdet_labels(peer, phase, scene, truth)
            yield Case(name, labels, theirs, bytes=work)
            if phase == "aligned" and importlib.util.find_spec("ultralytics"):
                ours = _bare_assignment(assigner, scene, truth)
                theirs = _ultralytics_assignment(assigner, scene, truth)
                yield Case(f"{name}, beside Ultralytics", ours, theirs, bytes=work)


def _mmdet_labels(
    peer: MMDetTOOD, phase: str, scene: Scene, truth: tuple[Tensor, Tensor]
) -> Callable[[], object]:
    """MMDetection's targets of one image in a phase."""
    from mmdet.models.dense_heads import ATSSHead
    from mmengine.structures import InstanceData

    head, gt = peer.head, InstanceData(bboxes=truth[0], labels=truth[1])
    anchors = scene.points.anchors
    valid = torch.ones(len(anchors), dtype=torch.bool, device=anchors.device)
    meta = {"img_shape": (HEIGHT, WIDTH), "pad_shape": (HEIGHT, WIDTH)}
    counts = [rows * columns for rows, columns in scene.points.level_shapes]

    def labels() -> object:
        peer.set_phase(phase)
        if phase == "aligned":
            head.assigner = head.alignment_assigner
            predictions = (scene.scores, scene.boxes)
            return head._get_targets_single(*predictions, anchors, valid, gt, meta)
        head.assigner = head.initial_assigner
        return ATSSHead._get_targets_single(head, anchors, valid, counts, gt, meta, None)

    return labels


def _bare_assignment(
    assigner: TaskAlignedAssigner, scene: Scene, truth: tuple[Tensor, Tensor]
) -> Callable[[], object]:
    """Our assigner without what makes labels of its result."""
    return lambda: assigner(scene.scores, scene.boxes, scene.points.centers, *truth)


def _ultralytics_assignment(
    assigner: TaskAlignedAssigner, scene: Scene, truth: tuple[Tensor, Tensor]
) -> Callable[[], object]:
    """Ultralytics' assigner with our constants; its candidates are inside first, its IoU is CIoU.

    Its result has dense soft labels (R, K) too, which our loss never needs.
    """
    from ultralytics.utils.tal import TaskAlignedAssigner as Peer

    peer = Peer(assigner.topk, 80, assigner.alpha, assigner.beta, stride=STRIDES)
    gt_boxes, gt_classes = truth
    mask = torch.ones(1, len(gt_boxes), 1, dtype=torch.bool, device=gt_boxes.device)
    return lambda: peer(
        scene.scores[None],
        scene.boxes[None],
        scene.points.centers,
        gt_classes[None, :, None],
        gt_boxes[None],
        mask,
    )
