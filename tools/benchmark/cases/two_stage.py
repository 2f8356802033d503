"""Two-stage detectors on TOOD's proposals, next to detectron2's own with RPN."""

from collections.abc import Iterator

import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from tood.config.loading import load_config
from tood.modeling import find_dense_core
from tools import CONFIGS
from tools.benchmark.cases.common import make_instances, random_ground_truth, random_inputs
from tools.benchmark.harness import Case, Settings
from tools.reference.rpn import rpn_options

NAMES = ("TOOD-FasterRCNN-R50-1x", "TOOD-CascadeRCNN-R50-1x", "TOOD-MaskRCNN-R50-1x")
_NUM_GT = 10


def two_stage_cases(settings: Settings) -> Iterator[Case]:
    """Inference, and forward, losses and backward; weights and images are random."""
    inputs = random_inputs(settings)
    size = settings.size[::-1]
    for name in NAMES:
        models = [_build(name, settings, options) for options in ([], rpn_options())]
        for model in models:
            _scale_logits(model.eval(), inputs)
        sides = [torch.no_grad()(lambda m=m: m(inputs)) for m in models]
        yield Case(f"{name}, inference, {settings.title}; reference: RPN", *sides)
        instances = _ground_truth(size, settings.device)
        labeled = [{**x, "instances": instances} for x in inputs]
        for model in models:
            model.train()
        steps = [lambda m=m, x=labeled: _step(m, x) for m in models]
        yield Case(f"{name}, forward, losses, backward, {settings.title}; reference: RPN", *steps)


def _build(name: str, settings: Settings, options: list[str]) -> nn.Module:
    device = ["MODEL.DEVICE", settings.device]
    path = str(CONFIGS / "two_stage" / f"{name}.yaml")
    model = build_model(load_config(path, [*device, *options]))
    core = find_dense_core(model)
    if core is not None:
        core.set_phase("aligned")
    return model


@torch.no_grad()
def _scale_logits(model: nn.Module, inputs: list[dict]) -> None:
    """Scale the classifier so that logits vary by 1: some hundred detections per image before NMS.

    With its initialization nothing would reach the threshold, and masks would take no time.
    """
    predictors = model.roi_heads.box_predictor
    for predictor in predictors if isinstance(predictors, nn.ModuleList) else [predictors]:
        found: list[Tensor] = []
        hook = predictor.cls_score.register_forward_hook(lambda *x, f=found: f.append(x[-1]))
        model(inputs)
        hook.remove()
        predictor.cls_score.weight /= found[0].std()


def _ground_truth(size: tuple[int, int], device: str) -> Instances:
    boxes, classes = random_ground_truth(_NUM_GT, *size, device)
    instances = make_instances(size, boxes, classes)
    masks = torch.zeros(_NUM_GT, *size, dtype=torch.bool, device=device)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.long().tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
    instances.gt_masks = BitMasks(masks)
    return instances


def _step(model: nn.Module, inputs: list[dict]) -> None:
    with EventStorage():
        sum(model(inputs).values()).backward()
