"""Compare this project with MMDetection 3.3.0, number by number, on pictures of your choice.

tools/compare_with_mmdet.py --config TOOD-R50-1x TOOD-R101-DCN-2x --input *.jpg
tools/compare_with_mmdet.py --config TOOD-R50-1x --weights tood_r50_fpn_1x_coco.pth --input a.jpg

A tool for developers: pip install -e ".[mmdet]". Both models get the same weights (random ones that
let every part work, if none are named), pictures and ground truth (made up), and the largest
differences of features, scores, boxes, detections, losses and of one SGD step are printed, in
float32 and in float64. In float64 rounding is out of the way: what differs there is a difference of
the functions. The rows "noise" say how much MMDetection's own float32 numbers move when the input
changes by 1e-7 of its values; docs/fidelity.md explains.
"""

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import tood  # noqa: F401  (before the others: it explains what is missing)

# isort: split
import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.solver import build_optimizer
from detectron2.structures import Boxes, Instances
from tabulate import tabulate
from torch import Tensor, nn

from tood.checkpoint.key_mapping import from_tood_keys
from tood.config.loading import load_config
from tood.errors import DataError, exit_on_user_error
from tood.modeling.meta_arch import TOOD
from tood.modeling.postprocessing import postprocess_single_image
from tools.reference.mmdet import MMDET_CONFIGS, MMDetTOOD, peer_of, precision, random_projection

ROOT = Path(__file__).resolve().parents[2]
PHASES = ("warmup", "aligned")


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", nargs="+", default=list(MMDET_CONFIGS), choices=MMDET_CONFIGS)
    parser.add_argument("--input", nargs="*", default=[], help="pictures, compared as one batch")
    parser.add_argument("--size", type=int, default=256, help="short side of the pictures")
    parser.add_argument("--weights", help="file or URL; for one config")
    parser.add_argument(
        "--golden", help="write MMDetection's numbers into this .npz, for the tests"
    )
    return parser.parse_args()


def read_pictures(paths: list[str], size: int) -> list[np.ndarray]:
    """The pictures, BGR, resized; without any, two of noise with different shapes."""
    if not paths:
        random = np.random.RandomState(0)
        return [random.randint(0, 256, (*s, 3)).astype(np.uint8) for s in ((96, 128), (128, 96))]
    pictures = []
    for path in paths:
        picture = cv2.imread(path)
        if picture is None:
            raise DataError(f"{path} cannot be read as a picture")
        scale = size / min(picture.shape[:2])
        pictures.append(cv2.resize(picture, None, fx=scale, fy=scale))
    return pictures


def make_ground_truth(image: np.ndarray, seed: int) -> tuple[Tensor, Tensor]:
    """Boxes (M, 4) from small to large and their classes (M,)."""
    height, width = image.shape[:2]
    random = np.random.RandomState(seed)
    sizes = np.array([0.1, 0.25, 0.5, 0.8]) * min(height, width)
    x1, y1 = (random.uniform(0, side - sizes) for side in (width, height))
    boxes = np.stack([x1, y1, x1 + sizes, y1 + sizes * 0.9], axis=1).astype(np.float32)
    return torch.from_numpy(boxes), torch.from_numpy(random.randint(0, 80, len(sizes)))


@dataclass
class Run:
    """What a model computes: maps by level, detections by image, losses and updates by name.

    Attributes:
        features: C3 to C5, P3 to P7.
        scores: (N, K, Hi, Wi).
        boxes: (N, 4, Hi, Wi), pixels.
        detections: boxes, scores and classes, unclipped as MMDetection's are.
        losses: of both phases.
        updates: what a step of SGD changes, in each phase, with MMDetection's names.
    """

    features: list[Tensor]
    scores: list[Tensor]
    boxes: list[Tensor]
    detections: list[tuple[Tensor, Tensor, Tensor]]
    losses: dict[str, float]
    updates: dict[str, dict[str, Tensor]]


def step(model: nn.Module, optimizer: torch.optim.Optimizer, losses: Iterable[Tensor]) -> dict:
    """What a step of SGD changes of each parameter; the model is as before afterwards."""
    before = {key: value.detach().clone() for key, value in model.state_dict().items()}
    sum(losses).backward()
    optimizer.step()
    optimizer.zero_grad()
    updates = {key: value.detach() - before[key] for key, value in model.named_parameters()}
    model.load_state_dict(before)
    return updates


def run_ours(model: TOOD, cfg: CfgNode, inputs: list[dict]) -> Run:
    """Run our model."""
    losses, updates = {}, {}
    for phase in PHASES:
        model.train().set_phase(phase)
        found = model(inputs)
        losses.update({f"{phase}/{name}": loss.item() for name, loss in found.items()})
        updates[phase] = from_tood_keys(
            step(model, build_optimizer(cfg, model), found.values()), "mmdet"
        )
    with torch.no_grad():
        images = model.eval().preprocess_image(inputs)
        stages = model.backbone.bottom_up(images.tensor)
        pyramid = model.backbone(images.tensor)
        maps = [pyramid[level] for level in model.head_in_features]
        anchors = [boxes.tensor.to(images.tensor) for boxes in model.anchor_generator(maps)]
        predictions = model.head(maps, anchors)
        scores = predictions.pred_scores
        levels = zip(predictions.pred_boxes, model.level_strides, strict=True)
        boxes = [level * stride for level, stride in levels]
        detections = [
            postprocess_single_image(
                [level[i].flatten(1).t() for level in scores],
                [level[i].flatten(1).t() for level in boxes],
                score_thresh=model.test_score_thresh,
                topk_candidates=model.test_topk_candidates,
                nms_thresh=model.test_nms_thresh,
                max_detections=model.max_detections_per_image,
                image_size=None,
            )
            for i in range(len(inputs))
        ]
    features = [*(stages[f"res{i}"] for i in (3, 4, 5)), *maps]
    found = [(d.boxes, d.scores, d.classes) for d in detections]
    return Run(features, list(scores), boxes, found, losses, updates)


def run_peer(peer: MMDetTOOD, batch: Tensor, samples: list) -> Run:
    """Run MMDetection's model."""
    losses, updates = {}, {}
    for phase in PHASES:
        peer.set_phase(phase)
        peer.model.train()  # which also puts its batch norms into evaluation mode
        found = peer.losses(batch, samples)
        losses.update({f"{phase}/{name}": loss.item() for name, loss in found.items()})
        updates[phase] = step(peer.model, peer.optimizer(), found.values())
    with torch.no_grad():
        stages = peer.model.eval().backbone(batch)
        maps = peer.model.neck(stages)
        scores, boxes = peer.head(maps)
        metas = [sample.metainfo for sample in samples]
        detections = peer.head.predict_by_feat(scores, boxes, batch_img_metas=metas, rescale=False)
        strides = peer.head.prior_generator.strides
        boxes = [level * stride for level, (stride, _) in zip(boxes, strides, strict=True)]
    found = [(d.bboxes, d.scores, d.labels) for d in detections]
    return Run([*stages[1:], *maps], list(scores), boxes, found, losses, updates)


def largest(pairs: Iterable[tuple[Tensor, Tensor]], relative: bool = False) -> float:
    """The largest difference in any pair of tensors; relative to the range of the second."""
    return max(
        (a - b).abs().max().item() / ((b.max() - b.min()).item() if relative else 1)
        for a, b in pairs
        if b.numel()
    )


def compare(ours: Run, theirs: Run) -> list[str]:
    """A row of the table; see :data:`COLUMNS`."""
    pairs = list(zip(ours.detections, theirs.detections, strict=True))
    same = all(torch.equal(a[2], b[2]) for a, b in pairs)
    detections = " + ".join(str(len(b[2])) for _, b in pairs)
    step_errors = sorted(
        ((ours.updates[phase].get(name, 0 * update) - update).norm() / update.norm()).item()
        for phase, updates in theirs.updates.items()
        for name, update in updates.items()
        if update.any()
    )
    numbers = [
        largest(zip(ours.features, theirs.features, strict=True), relative=True),
        largest(zip(ours.scores, theirs.scores, strict=True)),
        largest(zip(ours.boxes, theirs.boxes, strict=True)),
        largest((a[0], b[0]) for a, b in pairs) if same else None,
        max(abs(loss / theirs.losses[name] - 1) for name, loss in ours.losses.items()),
        step_errors[len(step_errors) // 2],
        step_errors[-1],
    ]
    row = ["-" if number is None else f"{number:.0e}" for number in numbers]
    return [*row[:3], detections if same else "others", *row[3:]]


COLUMNS = [
    "features / range",
    "scores",
    "boxes, px",
    "detections",
    "their boxes, px",
    "losses, rel.",
    "SGD step, rel., median",
    "worst parameter",
]


def golden_of(run: Run, name: str) -> dict[str, np.ndarray]:
    """A run in small: detections, losses, and of each update the norm and a random projection."""
    golden = {f"{name}/{key}": np.array(loss) for key, loss in run.losses.items()}
    for i, detections in enumerate(run.detections):
        for key, value in zip(("boxes", "scores", "classes"), detections, strict=True):
            golden[f"{name}/detections{i}/{key}"] = value.numpy()
    for phase, updates in run.updates.items():
        numbers = np.zeros((len(updates), 2))
        for row, (key, update) in zip(numbers, updates.items(), strict=True):
            row[:] = update.norm().item(), random_projection(f"step:{key}", update.numpy())
        golden[f"{name}/{phase}/names"] = np.array(list(updates))
        golden[f"{name}/{phase}/updates"] = numbers
    return golden


def compare_config(
    name: str, weights: str | None, images: list[np.ndarray], dtype: torch.dtype
) -> tuple[dict[str, list[str]], Run]:
    """Rows of the table for one config and precision, and MMDetection's run."""
    cfg = load_config(str(ROOT / "configs" / f"{name}.yaml"), ["MODEL.DEVICE", "cpu"])
    model = build_model(cfg)
    peer = peer_of(name, model, weights)
    model.to(dtype)
    peer.to(dtype)
    truth = [make_ground_truth(image, seed) for seed, image in enumerate(images)]
    boxes, classes = [b.to(dtype) for b, _ in truth], [c for _, c in truth]
    batch, samples = peer.preprocess(images, boxes, classes)
    inputs = []
    for image, box, label in zip(images, boxes, classes, strict=True):
        instances = Instances(image.shape[:2])
        instances.gt_boxes = Boxes(box)
        instances.gt_boxes.tensor = box  # Boxes makes float32 of it
        instances.gt_classes = label
        rgb = torch.from_numpy(image[:, :, ::-1].transpose(2, 0, 1).copy())
        inputs.append({"image": rgb.to(dtype), "instances": instances})
    expected = run_peer(peer, batch, samples)
    rows = {f"{name}, {str(dtype)[6:]}": compare(run_ours(model, cfg, inputs), expected)}
    if dtype == torch.float32:
        noisy = batch * (1 + 1e-7 * torch.randn(batch.shape).clamp(-2, 2))
        rows[f"{name}, noise"] = compare(run_peer(peer, noisy, samples), expected)
    return rows, expected


def main() -> None:
    """Compare, print, and write what was asked for."""
    args = parse_args()
    if args.weights and len(args.config) > 1:
        raise DataError("--weights are of one model: name it with --config")
    torch.manual_seed(0)
    images = read_pictures(args.input, args.size)
    table, golden = {}, {}
    for name in args.config:
        for dtype in (torch.float32, torch.float64):
            with precision(dtype):
                rows, run = compare_config(name, args.weights, images, dtype)
            table.update(rows)
        if args.golden:
            golden.update(golden_of(run, name))
        print(f"{name}: done", file=sys.stderr, flush=True)
    body = [[row, *cells] for row, cells in table.items()]
    print(tabulate(body, ["", *COLUMNS], tablefmt="github", disable_numparse=True))
    if args.golden:
        for i, image in enumerate(images):
            boxes, classes = make_ground_truth(image, i)
            golden.update({f"image{i}": image, f"boxes{i}": boxes, f"classes{i}": classes})
        np.savez_compressed(args.golden, **golden)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
