"""T-head alone, on random feature maps."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from tood.modeling.structures import GroundTruth
from tools.benchmark.cases.common import (
    build_models,
    count_macs,
    random_features,
    random_ground_truth,
)
from tools.benchmark.harness import Case, Settings
from tools.reference.mmdet import MMDetTOOD

TRAINING_SIZE = (480, 640)


def head_cases(settings: Settings) -> Iterator[Case]:
    """Forward at 800x1216, plain and with two DCN layers; a training step at 480x640."""
    for title, name in (("", "TOOD-R50-1x"), (" with 2 DCN", "TOOD-R101-DCN-2x")):
        model, reference = build_models(name, settings)
        features = random_features(model, 1, (800, 1216), settings.device)
        yield Case(
            f"T-head{title}, forward, 800x1216",
            torch.no_grad()(lambda m=model, x=features: m.predict(x)),
            None if reference is None else _mmdet_forward(reference, list(features.values())),
            count_macs(model, (1216, 800), "head"),
        )
    yield _training_case(settings)


def _mmdet_forward(reference: MMDetTOOD, maps: list[Tensor]) -> Callable[[], object]:
    return torch.no_grad()(lambda: reference.head(maps))


def _training_case(settings: Settings) -> Case:
    model, reference = build_models("TOOD-R50-1x", settings)
    features = random_features(model, 2, TRAINING_SIZE, settings.device)
    features = {name: level.requires_grad_() for name, level in features.items()}
    boxes, classes = random_ground_truth(10, *TRAINING_SIZE, settings.device)
    ground_truth = [GroundTruth(boxes, classes, areas=boxes.new_ones(len(boxes)))] * 2
    model.train().set_phase("aligned")

    def candidate() -> None:
        grid, predictions = model.predict(features)
        sizes = [TRAINING_SIZE] * 2
        sums = model.loss_sums(grid, predictions, ground_truth, sizes, size_divisor=32)
        sum(model.normalize_losses(sums).values()).backward()

    height, width = TRAINING_SIZE
    return Case(
        "T-head, forward, loss and backward, 480x640, batch 2",
        candidate,
        None
        if reference is None
        else _mmdet_training_step(reference, list(features.values()), boxes, classes),
        2 * 3 * count_macs(model, (width, height), "head"),
    )


def _mmdet_training_step(
    reference: MMDetTOOD, maps: list[Tensor], boxes: Tensor, classes: Tensor
) -> Callable[[], None]:
    from mmengine.structures import InstanceData

    metas = [{"img_shape": TRAINING_SIZE, "pad_shape": TRAINING_SIZE}] * 2
    ground_truth = [InstanceData(bboxes=boxes, labels=classes)] * 2

    def step() -> None:
        reference.set_phase("aligned")
        losses = reference.head.loss_by_feat(*reference.head(maps), ground_truth, metas)
        sum(sum(levels) for levels in losses.values()).backward()

    return step
