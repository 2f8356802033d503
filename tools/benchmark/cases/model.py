"""Whole models: inference, training steps, torch.compile, and detectron2's RetinaNet."""

from collections.abc import Callable, Iterator

import torch
from detectron2.modeling import build_model
from torch import Tensor

from tood.analysis.complexity import count_training_flops
from tood.config.loading import load_config
from tools import CONFIGS
from tools.benchmark.cases.common import (
    build_models,
    count_macs,
    make_instances,
    random_ground_truth,
    random_inputs,
)
from tools.benchmark.harness import Case, Settings
from tools.reference.mmdet import MMDetTOOD

NAMES = ("TOOD-R50-1x", "TOOD-R101-DCN-2x")


def inference_cases(settings: Settings) -> Iterator[Case]:
    """From pixels to detections."""
    for name in NAMES:
        model, reference = build_models(name, settings)
        model.eval()
        inputs = random_inputs(settings)
        batch = model.preprocess_image(inputs).tensor
        yield Case(
            f"{name}, inference, {settings.title}",
            torch.no_grad()(lambda m=model, x=inputs: m(x)),
            None if reference is None else _mmdet_inference(reference, batch, settings),
            settings.batch * count_macs(model, settings.size, "model"),
        )


def _mmdet_inference(
    reference: MMDetTOOD, batch: Tensor, settings: Settings
) -> Callable[[], object]:
    from mmdet.structures import DetDataSample

    reference.model.eval()
    size = settings.size[::-1]
    meta = {"img_shape": size, "scale_factor": (1, 1), "ori_shape": size}
    samples = [DetDataSample(metainfo=meta) for _ in batch]
    return torch.no_grad()(lambda: reference.model.predict(batch, samples))


def training_cases(settings: Settings) -> Iterator[Case]:
    """Training steps without the optimizer: forward, losses, backward.

    Under autocast there is no reference: MMDetection's binary cross entropy fails on a GPU.
    """
    size = settings.size[::-1]
    for name in NAMES:
        model, reference = build_models(name, settings)
        model.train().set_phase("aligned")
        boxes, classes = random_ground_truth(10, *size, settings.device)
        instances = make_instances(size, boxes, classes)
        inputs = [{**x, "instances": instances} for x in random_inputs(settings)]
        reference_step = None
        if reference is not None and settings.amp is None:
            batch = model.preprocess_image(inputs).tensor
            reference_step = _mmdet_step(reference, batch, size, boxes, classes)
        flops = count_training_flops(model, settings.size)
        yield Case(
            f"{name}, forward, losses, backward, {settings.title}",
            lambda m=model, x=inputs: sum(m(x).values()).backward(),
            reference_step,
            settings.batch * (flops["conv"] + flops["matmul"]),
        )


def _mmdet_step(
    reference: MMDetTOOD, batch: Tensor, size: tuple[int, int], boxes: Tensor, classes: Tensor
) -> Callable[[], object]:
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    reference.model.train()
    reference.set_phase("aligned")
    samples = []
    for _ in batch:
        sample = DetDataSample(metainfo={"img_shape": size, "pad_shape": size})
        sample.gt_instances = InstanceData(bboxes=boxes, labels=classes)
        sample.ignored_instances = InstanceData(bboxes=boxes[:0], labels=classes[:0])
        samples.append(sample)
    return lambda: sum(reference.losses(batch, samples).values()).backward()


def compile_cases(settings: Settings) -> Iterator[Case]:
    """Backbone and head compiled by torch.compile, against the same model uncompiled."""
    inputs = random_inputs(settings)
    for name in NAMES:
        plain = build_models(name, settings)[0].eval()
        compiled = build_models(name, settings)[0].eval()
        compiled.backbone.compile(dynamic=True)
        compiled.head.compile(dynamic=True)
        sides = [torch.no_grad()(lambda m=m: m(inputs)) for m in (compiled, plain)]
        macs = settings.batch * count_macs(plain, settings.size, "model")
        yield Case(f"{name}, compiled and uncompiled, {settings.title}", *sides, macs)


def retinanet_cases(settings: Settings) -> Iterator[Case]:
    """TOOD-R50 against detectron2's RetinaNet with the same backbone."""
    model = build_models("TOOD-R50-1x", settings)[0].eval()
    cfg = load_config(str(CONFIGS / "TOOD-R50-1x.yaml"), ["MODEL.DEVICE", settings.device])
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[x, x * 1.26, x * 1.59] for x in (32, 64, 128, 256, 512)]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[0.5, 1.0, 2.0]]
    retinanet = build_model(cfg).eval()
    inputs = random_inputs(settings)
    sides = [torch.no_grad()(lambda m=m: m(inputs)) for m in (model, retinanet)]
    macs = settings.batch * count_macs(model, settings.size, "model")
    yield Case(f"TOOD-R50 and RetinaNet-R50, inference, {settings.title}", *sides, macs)
