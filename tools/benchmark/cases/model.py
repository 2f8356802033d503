"""The cases of tools/benchmark.py: what is timed, on both sides."""

from collections.abc import Callable, Iterator

import torch
import torchvision
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor

from tood.analysis.complexity import count_parts, count_training_flops
from tood.config.loading import load_config
from tood.modeling.layers import deform_conv2d
from tood.modeling.meta_arch import TOOD
from tood.modeling.postprocessing import postprocess_single_image
from tools.benchmark.cases.assign import assignment
from tools.benchmark.harness import ROOT, STRIDES, Case, Settings, ground_truth, models, shapes_of
from tools.reference.mmdet import MMDetTOOD


def head(settings: Settings) -> Iterator[Case]:
    """T-head: forward at 800x1216, plain and with two DCN; a training step at 480x640."""
    for title, name in (("", "TOOD-R50-1x"), (" with 2 DCN", "TOOD-R101-DCN-2x")):
        model, peer = models(name, settings)
        maps = [torch.randn(1, 256, *s, device=settings.device) for s in shapes_of(800, 1216)]
        anchors = [boxes.tensor for boxes in model.anchor_generator(maps)]
        forward = torch.no_grad()(lambda m=model.head, x=maps, a=anchors: m(x, a))
        theirs = None if peer is None else torch.no_grad()(lambda p=peer, x=maps: p.head(x))
        macs = multiply_adds(model, (1216, 800), "head")
        yield Case(f"T-head{title}, forward, 800x1216", forward, theirs, macs)
    model, peer = models("TOOD-R50-1x", settings)
    size = (480, 640)
    maps = [torch.randn(2, 256, *s, device=settings.device) for s in shapes_of(*size)]
    maps = [level.requires_grad_() for level in maps]
    anchors = [boxes.tensor for boxes in model.anchor_generator(maps)]
    boxes, classes = ground_truth(10, *size, settings.device)
    instances = Instances(size, gt_boxes=Boxes(boxes), gt_classes=classes)
    images = ImageList(torch.zeros(2, 3, *size), [size, size])
    model.train().set_phase("aligned")

    def ours() -> None:
        predictions = model.head(maps, anchors)
        inputs = [{"instances": instances}] * 2
        sum(model.forward_training(inputs, images, anchors, predictions).values()).backward()

    def theirs() -> None:
        from mmengine.structures import InstanceData

        peer.set_phase("aligned")
        truth = [InstanceData(bboxes=boxes, labels=classes)] * 2
        losses = peer.head.loss_by_feat(
            *peer.head(maps), truth, [{"img_shape": size, "pad_shape": size}] * 2
        )
        sum(sum(parts) for parts in losses.values()).backward()

    macs = 2 * 3 * multiply_adds(model, (640, 480), "head")
    name = "T-head, forward, loss and backward, 480x640, batch 2"
    yield Case(name, ours, theirs if peer else None, macs)


def post_processing(settings: Settings) -> Iterator[Case]:
    """Candidates and suppression of one 800x1344 image, few and very many candidates."""
    shapes = shapes_of(800, 1344)
    _, peer = models("TOOD-R50-1x", settings)
    for title, share in (("999", 999), ("1.6 million", 1_600_000)):
        total = sum(rows * columns for rows, columns in shapes) * 80
        scores, boxes = [], []
        for rows, columns in shapes:
            values = torch.rand(1, 80, rows, columns, device=settings.device)
            chosen = values < share / total
            scores.append(torch.where(chosen, 0.05 + 0.9 * torch.rand_like(values), 0.01))
            y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
            center = torch.stack([x, y], dim=0).float().to(settings.device)
            side = 1 + 3 * torch.rand_like(center)
            boxes.append(torch.cat([center - side, center + side])[None])
        flat_scores = [level[0].flatten(1).t() for level in scores]
        flat_boxes = [b[0].flatten(1).t() * s for b, s in zip(boxes, STRIDES, strict=True)]

        def ours(scores=flat_scores, boxes=flat_boxes) -> object:
            return postprocess_single_image(
                scores,
                boxes,
                score_thresh=0.05,
                topk_candidates=1000,
                nms_thresh=0.6,
                max_detections=100,
                image_size=(800, 1344),
            )

        def theirs(scores=scores, boxes=boxes) -> object:
            metas = [{"img_shape": (800, 1344), "scale_factor": (1, 1)}]
            return peer.head.predict_by_feat(scores, boxes, batch_img_metas=metas)

        yield Case(
            f"post-processing, {title} candidates",
            ours,
            theirs if peer is not None else None,
            bytes=4 * total,
        )


def dcn(settings: Settings) -> Iterator[Case]:
    """DCNv2 against torchvision's operator: sizes of the head and of ResNet's stages."""
    for name, channels, groups, deform_groups, height, width in (
        ("head, P3 of 800x1216", 256, 1, 4, 100, 152),
        ("ResNet res4", 256, 1, 1, 50, 76),
        ("ResNet res5", 512, 1, 1, 25, 38),
        ("ResNeXt res4", 1024, 64, 1, 50, 76),
    ):
        options = {"device": settings.device, "requires_grad": True}
        x = torch.randn(1, channels, height, width, **options)
        weight = torch.randn(channels, channels // groups, 3, 3, **options)
        offset = torch.randn(1, 18 * deform_groups, height, width, **options)
        mask = torch.rand(1, 9 * deform_groups, height, width, **options)
        sides = [
            lambda f=f, a=(x, offset, weight), m=mask: f(*a, mask=m, padding=1)
            for f in (deform_conv2d, torchvision.ops.deform_conv2d)
        ]
        macs = weight.numel() * height * width
        yield Case(f"DCNv2, {name}, forward", *map(torch.no_grad(), sides), macs)
        backward = [lambda f=f: f().sum().backward() for f in sides]
        yield Case(f"DCNv2, {name}, forward and backward", *backward, 3 * macs)


def model(settings: Settings) -> Iterator[Case]:
    """Whole models, from pixels to detections."""
    width, height = settings.size
    for name in ("TOOD-R50-1x", "TOOD-R101-DCN-2x"):
        ours, peer = models(name, settings)
        ours.eval()
        inputs = _noise(settings)
        theirs = None
        if peer is not None:
            from mmdet.structures import DetDataSample

            peer.model.eval()
            size = (height, width)
            meta = {"img_shape": size, "scale_factor": (1, 1), "ori_shape": size}
            samples = [DetDataSample(metainfo=meta) for _ in inputs]
            batch = ours.preprocess_image(inputs).tensor
            theirs = torch.no_grad()(lambda p=peer, b=batch, s=samples: p.model.predict(b, s))
        forward = torch.no_grad()(lambda m=ours, x=inputs: m(x))
        macs = settings.batch * multiply_adds(ours, settings.size, "model")
        yield Case(f"{name}, inference, {_title(settings)}", forward, theirs, macs)


def train(settings: Settings) -> Iterator[Case]:
    """Training steps of whole models without the optimizer: forward, losses, backward.

    MMDetection has no side under autocast, where its binary cross entropy stops on a GPU.
    """
    width, height = settings.size
    for name in ("TOOD-R50-1x", "TOOD-R101-DCN-2x"):
        ours, peer = models(name, settings)
        ours.train().set_phase("aligned")
        boxes, classes = ground_truth(10, height, width, settings.device)
        instances = Instances((height, width), gt_boxes=Boxes(boxes), gt_classes=classes)
        inputs = [{**x, "instances": instances} for x in _noise(settings)]
        theirs = None
        if peer is not None and settings.amp is None:
            images = ours.preprocess_image(inputs).tensor
            theirs = _mmdet_step(peer, images, (height, width), boxes, classes)

        def step(model=ours, inputs=inputs) -> None:
            sum(model(inputs).values()).backward()

        flops = count_training_flops(ours, settings.size)
        macs = settings.batch * (flops["conv"] + flops["matmul"])
        yield Case(f"{name}, forward, losses, backward, {_title(settings)}", step, theirs, macs)


def _mmdet_step(
    peer: MMDetTOOD, images: Tensor, size: tuple[int, int], boxes: Tensor, classes: Tensor
) -> Callable[[], object]:
    """MMDetection's training step."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    peer.model.train()
    peer.set_phase("aligned")
    samples = []
    for _ in images:
        sample = DetDataSample(metainfo={"img_shape": size, "pad_shape": size})
        sample.gt_instances = InstanceData(bboxes=boxes, labels=classes)
        sample.ignored_instances = InstanceData(bboxes=boxes[:0], labels=classes[:0])
        samples.append(sample)
    return lambda: sum(peer.losses(images, samples).values()).backward()


def compiled(settings: Settings) -> Iterator[Case]:
    """Backbone and head compiled by torch.compile, beside the same model as it is."""
    inputs = _noise(settings)
    for name in ("TOOD-R50-1x", "TOOD-R101-DCN-2x"):
        plain = models(name, settings)[0].eval()
        fast = models(name, settings)[0].eval()
        fast.backbone.compile(dynamic=True)
        fast.head.compile(dynamic=True)
        sides = [torch.no_grad()(lambda m=m: m(inputs)) for m in (fast, plain)]
        macs = settings.batch * multiply_adds(plain, settings.size, "model")
        yield Case(f"{name}, compiled, beside itself, {_title(settings)}", *sides, macs)


def multiply_adds(model: TOOD, size: tuple[int, int], part: str) -> float:
    """Multiply-adds of a part of a model on one image."""
    flops = count_parts(model, size)[part]
    return flops["conv"] + flops["matmul"]


def _noise(settings: Settings) -> list[dict]:
    """A batch of noise."""
    width, height = settings.size
    picture = torch.rand(3, height, width, device=settings.device) * 255
    return [{"image": picture}] * settings.batch


def _title(settings: Settings) -> str:
    width, height = settings.size
    return f"{height}x{width}, batch {settings.batch}"


def retinanet(settings: Settings) -> Iterator[Case]:
    """TOOD-R50 beside detectron2's RetinaNet with the same backbone."""
    ours, _ = models("TOOD-R50-1x", settings)
    cfg: CfgNode = load_config(
        str(ROOT / "configs" / "TOOD-R50-1x.yaml"), ["MODEL.DEVICE", settings.device]
    )
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[x, x * 1.26, x * 1.59] for x in (32, 64, 128, 256, 512)]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[0.5, 1.0, 2.0]]
    peer = build_model(cfg).eval()
    ours.eval()
    inputs = _noise(settings)
    sides = [torch.no_grad()(lambda m=m: m(inputs)) for m in (ours, peer)]
    macs = settings.batch * multiply_adds(ours, settings.size, "model")
    yield Case(f"TOOD-R50 and RetinaNet-R50, inference, {_title(settings)}", *sides, macs)


GROUPS: dict[str, Callable[[Settings], Iterator[Case]]] = {
    "assign": assignment,
    "head": head,
    "postprocess": post_processing,
    "dcn": dcn,
    "model": model,
    "train": train,
    "retinanet": retinanet,
    "compile": compiled,
}
