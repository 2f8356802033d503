"""The cases of tools/benchmark.py: what is timed, on both sides."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, ImageList, Instances
from mmdet_peer import MMDetTOOD, peer_of
from model_info import count_head
from torch import Tensor

from tood.config import load_config
from tood.errors import ConfigError
from tood.modeling.assigners import ATSSAssigner, TaskAlignedAssigner
from tood.modeling.labeling import Points, label_points
from tood.modeling.layers import deform_conv2d
from tood.modeling.losses import FlatPredictions
from tood.modeling.meta_arch import TOOD
from tood.modeling.postprocessing import detect_single_image

ROOT = Path(__file__).resolve().parents[1]
STRIDES = [8, 16, 32, 64, 128]


@dataclass
class Settings:
    """What the command line chose."""

    device: str
    amp: str | None
    batch: int


@dataclass
class Case:
    """What is timed: functions of no arguments; and the least work that it is."""

    name: str
    ours: Callable[[], object]
    peer: Callable[[], object] | None = None
    macs: float = 0
    bytes: float = 0


def shapes_of(height: int, width: int) -> list[tuple[int, int]]:
    """Sizes of P3 to P7."""
    return [(-(-height // stride), -(-width // stride)) for stride in STRIDES]


def models(name: str, settings: Settings) -> tuple[TOOD, MMDetTOOD | None]:
    """Ours and, if it is installed, MMDetection's, with the same weights."""
    cfg = load_config(str(ROOT / "configs" / f"{name}.yaml"), ["MODEL.DEVICE", settings.device])
    model = build_model(cfg)
    try:
        peer = peer_of(name, model)
    except ConfigError:
        return model, None
    peer.model.to(settings.device)
    return model, peer


def ground_truth(count: int, height: int, width: int, device: str) -> tuple[Tensor, Tensor]:
    """Boxes of 16 to 400 pixels and classes."""
    size = 16 * 25 ** torch.rand(count, 2)
    corner = torch.rand(count, 2) * (torch.tensor([width, height]) - size).clamp(min=1)
    return torch.cat([corner, corner + size], dim=1).to(device), torch.randint(
        80, (count,), device=device
    )


def assignment(settings: Settings) -> Iterator[Case]:
    """Labels of one 800x1344 image by both assigners; 10, 100 and 500 ground truths."""
    height, width, device = 800, 1344, settings.device
    shapes = shapes_of(height, width)
    model, peer = models("TOOD-R50-1x", settings)
    maps = [torch.zeros(1, 1, *shape, device=device) for shape in shapes]
    anchors = [boxes.tensor for boxes in model.anchor_generator(maps)]
    points = Points.from_levels(anchors, shapes, STRIDES)
    num_points = len(points.centers)
    side = points.strides * (1 + 7 * torch.rand(num_points, 2, device=device))
    boxes = torch.cat([points.centers - side, points.centers + side], dim=1)
    scores = torch.rand(num_points, 80, device=device) ** 4
    flat = FlatPredictions(scores[None], (boxes / points.strides)[None])
    for kind, phase, assigner in (
        ("task-aligned", "aligned", TaskAlignedAssigner()),
        ("ATSS", "warmup", ATSSAssigner()),
    ):
        for count in (10, 100, 500):
            gt_boxes, gt_classes = ground_truth(count, height, width, device)

            def ours(assigner=assigner, gt=(gt_boxes, gt_classes)) -> object:
                return label_points(assigner, flat, points, [(height, width)], 32, [gt[0]], [gt[1]])

            theirs = None
            if peer is not None:
                theirs = _peer_labels(
                    peer, phase, scores, boxes, points.anchors, gt_boxes, gt_classes, shapes
                )
            work = 4 * num_points * (count + 4)
            yield Case(f"{kind} assignment, {count} ground truths", ours, theirs, bytes=work)


def _peer_labels(
    peer: MMDetTOOD,
    phase: str,
    scores: Tensor,
    boxes: Tensor,
    anchors: Tensor,
    gt_boxes: Tensor,
    gt_classes: Tensor,
    shapes: list[tuple[int, int]],
) -> Callable[[], object]:
    """MMDetection's targets of one image in a phase."""
    from mmdet.models.dense_heads import ATSSHead
    from mmengine.structures import InstanceData

    head, gt = peer.head, InstanceData(bboxes=gt_boxes, labels=gt_classes)
    valid = torch.ones(len(anchors), dtype=torch.bool, device=anchors.device)
    meta = {"img_shape": (800, 1344), "pad_shape": (800, 1344)}
    counts = [rows * columns for rows, columns in shapes]

    def labels() -> object:
        peer.set_phase(phase)
        if phase == "aligned":
            head.assigner = head.alignment_assigner
            return head._get_targets_single(scores, boxes, anchors, valid, gt, meta)
        head.assigner = head.initial_assigner
        return ATSSHead._get_targets_single(head, anchors, valid, counts, gt, meta, None)

    return labels


def head(settings: Settings) -> Iterator[Case]:
    """T-head: forward at 800x1216, plain and with two DCN; a training step at 480x640."""
    for title, name in (("", "TOOD-R50-1x"), (" with 2 DCN", "TOOD-R101-DCN-2x")):
        model, peer = models(name, settings)
        maps = [torch.randn(1, 256, *s, device=settings.device) for s in shapes_of(800, 1216)]
        anchors = [boxes.tensor for boxes in model.anchor_generator(maps)]
        forward = torch.no_grad()(lambda m=model.head, x=maps, a=anchors: m(x, a))
        theirs = None if peer is None else torch.no_grad()(lambda p=peer, x=maps: p.head(x))
        flops = count_head(model.head, maps, anchors)
        macs = flops["conv"] + flops["matmul"]
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

    yield Case(
        "T-head, forward, loss and backward, 480x640, batch 2", ours, theirs if peer else None
    )


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
            return detect_single_image(
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
    """Whole models, pictures of 800x1216, from pixels to detections."""
    for name in ("TOOD-R50-1x", "TOOD-R101-DCN-2x"):
        ours, peer = models(name, settings)
        ours.eval()
        picture = torch.rand(3, 800, 1216, device=settings.device) * 255
        inputs = [{"image": picture}] * settings.batch
        theirs = None
        if peer is not None:
            from mmdet.structures import DetDataSample

            peer.model.eval()
            meta = {"img_shape": (800, 1216), "scale_factor": (1, 1), "ori_shape": (800, 1216)}
            samples = [DetDataSample(metainfo=meta) for _ in inputs]
            batch = ours.preprocess_image(inputs).tensor
            theirs = torch.no_grad()(lambda p=peer, b=batch, s=samples: p.model.predict(b, s))
        forward = torch.no_grad()(lambda m=ours, x=inputs: m(x))
        yield Case(f"{name}, inference, 800x1216, batch {settings.batch}", forward, theirs)


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
    inputs = [{"image": torch.rand(3, 800, 1216, device=settings.device) * 255}] * settings.batch
    sides = [torch.no_grad()(lambda m=m: m(inputs)) for m in (ours, peer)]
    yield Case(f"TOOD-R50 and RetinaNet-R50, inference, batch {settings.batch}", *sides)


GROUPS: dict[str, Callable[[Settings], Iterator[Case]]] = {
    "assign": assignment,
    "head": head,
    "postprocess": post_processing,
    "dcn": dcn,
    "model": model,
    "retinanet": retinanet,
}
