"""Assigners, and the training targets made from their assignments."""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tood.modeling.assigners import Assigner, ATSSAssigner, TaskAlignedAssigner
from tood.modeling.structures import AnchorGrid, FlatPredictions, GroundTruth
from tood.modeling.targets import compute_targets
from tools import STRIDES
from tools.benchmark.cases.common import build_models, random_features, random_ground_truth
from tools.benchmark.harness import Case, Settings
from tools.reference.mmdet import MMDetTOOD

SIZE = (800, 1344)


@dataclass
class Scene:
    """Predictions for one image: (R, K) and (R, 4), in pixels, and their points."""

    grid: AnchorGrid
    scores: Tensor
    boxes: Tensor


def make_scene(grid: AnchorGrid) -> Scene:
    """Boxes with sides of 2 to 16 strides around the points; mostly low scores.

    Scores are laid out in memory class by class, as a head's maps are.
    """
    side = grid.strides * (1 + 7 * torch.rand_like(grid.centers))
    boxes = torch.cat([grid.centers - side, grid.centers + side], dim=1)
    return Scene(grid, torch.rand(80, len(side), device=side.device).pow_(4).t(), boxes)


def assigner_cases(settings: Settings) -> Iterator[Case]:
    """Targets of one 800x1344 image with both assigners, for each number of GT boxes."""
    model, reference = build_models("TOOD-R50-1x", settings)
    with torch.no_grad():
        grid, _ = model.predict(random_features(model, 1, SIZE, settings.device))
    scene = make_scene(grid)
    for kind, phase, assigner in (
        ("task-aligned", "aligned", TaskAlignedAssigner()),
        ("ATSS", "warmup", ATSSAssigner()),
    ):
        for count in settings.gt_counts:
            boxes, classes = random_ground_truth(count, *SIZE, settings.device)
            gt = GroundTruth(boxes, classes, areas=boxes.new_ones(count))
            name = f"{kind} assignment, {count} GT boxes"
            traffic = 4 * len(scene.boxes) * (count + 4)  # one pass over the IoUs
            mmdet = None if reference is None else _mmdet_targets(reference, phase, scene, gt)
            yield Case(name, _targets(assigner, scene, gt), mmdet, bytes=traffic)
            if phase == "aligned" and importlib.util.find_spec("ultralytics"):
                yield Case(
                    f"{name}, assigner alone and Ultralytics'",
                    lambda a=assigner, gt=gt: a(
                        scene.scores, scene.boxes, scene.grid.centers, gt.boxes, gt.classes
                    ),
                    _ultralytics_assignment(assigner, scene, gt),
                    bytes=traffic,
                )


def _targets(assigner: Assigner, scene: Scene, gt: GroundTruth) -> Callable[[], object]:
    predictions = FlatPredictions(scene.scores[None], scene.boxes[None])
    return lambda: compute_targets(assigner, predictions, scene.grid, [SIZE], 32, [gt])


def _mmdet_targets(
    reference: MMDetTOOD, phase: str, scene: Scene, gt: GroundTruth
) -> Callable[[], object]:
    """MMDetection's targets of one image in a phase."""
    from mmdet.models.dense_heads import ATSSHead
    from mmengine.structures import InstanceData

    head, gt_instances = reference.head, InstanceData(bboxes=gt.boxes, labels=gt.classes)
    anchors = scene.grid.anchors
    valid = torch.ones(len(anchors), dtype=torch.bool, device=anchors.device)
    meta = {"img_shape": SIZE, "pad_shape": SIZE}
    counts = [rows * columns for rows, columns in scene.grid.level_shapes]

    def targets() -> object:
        reference.set_phase(phase)
        if phase == "aligned":
            head.assigner = head.alignment_assigner
            return head._get_targets_single(
                scene.scores, scene.boxes, anchors, valid, gt_instances, meta
            )
        head.assigner = head.initial_assigner
        return ATSSHead._get_targets_single(head, anchors, valid, counts, gt_instances, meta, None)

    return targets


def _ultralytics_assignment(
    assigner: TaskAlignedAssigner, scene: Scene, gt: GroundTruth
) -> Callable[[], object]:
    """Ultralytics' assigner with our constants.

    Not the same function: it restricts candidates to points inside the GT box first, uses CIoU, and
    also makes dense soft labels (R, K), which our loss does not need.
    """
    from ultralytics.utils.tal import TaskAlignedAssigner as UltralyticsAssigner

    reference = UltralyticsAssigner(
        assigner.topk, 80, assigner.alpha, assigner.beta, stride=STRIDES
    )
    mask = torch.ones(1, len(gt.boxes), 1, dtype=torch.bool, device=gt.boxes.device)
    return lambda: reference(
        scene.scores[None],
        scene.boxes[None],
        scene.grid.centers,
        gt.classes[None, :, None],
        gt.boxes[None],
        mask,
    )
