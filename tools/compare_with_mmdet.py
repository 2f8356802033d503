#!/usr/bin/env python3
"""Compare this project with MMDetection 3.3.0, number by number, on pictures of your choice.

tools/compare_with_mmdet.py --config TOOD-R50-1x TOOD-R101-DCN-2x --input *.jpg
tools/compare_with_mmdet.py --config TOOD-R50-1x --weights tood_r50_fpn_1x_coco.pth --input a.jpg

A tool for developers: pip install -e ".[mmdet]". Both models get the same weights (random ones that
let every part work, if none are named), pictures and ground truth (made up), and the largest
differences of features, scores, boxes, detections, losses and of one SGD step are printed, in
float32 and in float64. In float64 rounding is out of the way: what differs there is a difference of
the functions. The float32 gradient is not continuous; docs/fidelity.md has the numbers and why.
"""

import argparse
import sys
import zlib
from pathlib import Path

import tood  # noqa: F401  (before the others: it explains what is missing)

# isort: split
import cv2
import numpy as np
import torch
from detectron2.modeling import build_model
from detectron2.solver import build_optimizer
from detectron2.structures import Boxes, Instances
from mmdet_peer import MMDET_CONFIGS, MMDetTOOD, precision
from tabulate import tabulate
from torch import Tensor, nn

from tood.checkpoint import TOODCheckpointer
from tood.checkpoint.files import find_weights, locate, read_file
from tood.checkpoint.layouts import from_tood, recognise, to_tood
from tood.config import load_config
from tood.errors import DataError, exit_on_user_error
from tood.modeling.heads import DenseHeadOutput
from tood.modeling.meta_arch import TOOD
from tood.modeling.postprocessing import detect_single_image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from golden_recipe import recipe_tensor  # noqa: E402

LEVELS = ["p3", "p4", "p5", "p6", "p7"]
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


def mmdet_weights(path: str | None, model: nn.Module) -> dict[str, Tensor]:
    """Weights with MMDetection's names: a file's, or the recipe's for this model."""
    if path is None:
        shapes = {key: value.shape for key, value in model.state_dict().items()}
        return {key: torch.from_numpy(recipe_tensor(key, s)) for key, s in shapes.items()}
    weights = find_weights(read_file(locate(path)), path).tensors
    return from_tood(to_tood(weights, recognise(weights))[0], "mmdet")


class Comparison:
    """Both models of one config with the same weights, in one precision.

    Args:
        name: of the config.
        weights: a file, or None.
        images: BGR pictures.
        dtype: float32 or float64.
    """

    def __init__(
        self, name: str, weights: str | None, images: list[np.ndarray], dtype: torch.dtype
    ) -> None:
        self.peer = MMDetTOOD(name)
        theirs = mmdet_weights(weights, self.peer.model)
        self.peer.load(theirs)
        self.cfg = load_config(str(ROOT / "configs" / f"{name}.yaml"), ["MODEL.DEVICE", "cpu"])
        self.model: TOOD = build_model(self.cfg)
        path = ROOT / "output" / "compare" / f"{name}.pth"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"state_dict": theirs}, path)
        TOODCheckpointer(self.model, complete=True).load(str(path))
        path.unlink()
        self.model.to(dtype)
        self.peer.to(dtype)
        truth = [make_ground_truth(image, seed) for seed, image in enumerate(images)]
        boxes, classes = [b.to(dtype) for b, _ in truth], [c for _, c in truth]
        self.batch, self.samples = self.peer.preprocess(images, boxes, classes)
        self.inputs = []
        for image, box, label in zip(images, boxes, classes, strict=True):
            instances = Instances(image.shape[:2])
            instances.gt_boxes = Boxes(box)
            instances.gt_boxes.tensor = box  # Boxes makes float32 of it
            instances.gt_classes = label
            rgb = torch.from_numpy(image[:, :, ::-1].transpose(2, 0, 1).copy())
            self.inputs.append({"image": rgb.to(dtype), "instances": instances})

    @torch.no_grad()
    def forward(self) -> dict[str, float]:
        """Largest differences of what the models compute, without losses."""
        images = self.model.eval().preprocess_image(self.inputs)
        ours = self.model.backbone.bottom_up(images.tensor)
        pyramid = self.model.backbone(images.tensor)
        maps = [pyramid[level] for level in LEVELS]
        anchors = [boxes.tensor.to(images.tensor) for boxes in self.model.anchor_generator(maps)]
        predictions = self.model.head(maps, anchors)

        stages = self.peer.model.eval().backbone(self.batch)
        their_maps = self.peer.model.neck(stages)
        scores, boxes = self.peer.head(their_maps)
        features = [*zip((ours[f"res{i}"] for i in (3, 4, 5)), stages[1:], strict=True)]
        features += zip(maps, their_maps, strict=True)
        strides = self.model.level_strides
        return {
            "input": difference(images.tensor, self.batch),
            "features, of their range": max(difference(a, b) / span(b) for a, b in features),
            "scores": max(map(difference, predictions.pred_scores, scores)),
            "boxes, px": max(
                difference(a, b) * s
                for a, b, s in zip(predictions.pred_boxes, boxes, strides, strict=True)
            ),
            **self.detections(predictions, scores, boxes),
        }

    def detections(
        self, predictions: DenseHeadOutput, scores: list[Tensor], boxes: list[Tensor]
    ) -> dict[str, str | float]:
        """Differences of the final detections, unclipped as MMDetection's are."""
        metas = [sample.metainfo for sample in self.samples]
        theirs = self.peer.head.predict_by_feat(scores, boxes, batch_img_metas=metas, rescale=False)
        self.their_detections = theirs
        model, found, score, box = self.model, [], 0.0, 0.0
        levels = list(zip(predictions.pred_boxes, model.level_strides, strict=True))
        for i, expected in enumerate(theirs):
            ours = detect_single_image(
                [level[i].flatten(1).t() for level in predictions.pred_scores],
                [level[i].flatten(1).t() * stride for level, stride in levels],
                score_thresh=model.test_score_thresh,
                topk_candidates=model.test_topk_candidates,
                nms_thresh=model.test_nms_thresh,
                max_detections=model.max_detections_per_image,
                image_size=None,
            )
            same = torch.equal(ours.classes, expected.labels)
            found.append(f"{len(ours.classes)}{'' if same else ' of other classes or order'}")
            if same:
                score = max(score, difference(ours.scores, expected.scores))
                box = max(box, difference(ours.boxes, expected.bboxes))
        found = " + ".join(found)
        return {"detections": found, "detected scores": score, "detected boxes, px": box}

    def step(self, phase: str) -> dict[str, float]:
        """Relative differences of the losses, and of what a step of SGD changes."""
        self.model.train().set_phase(phase)
        self.peer.set_phase(phase)
        self.peer.model.train()
        start = {k: v.clone() for k, v in self.model.state_dict().items()}
        ours = self.model(self.inputs)
        theirs = self.peer.losses(self.batch, self.samples)
        loss = max(abs(ours[name].item() / theirs[name].item() - 1) for name in ours)
        self.their_losses = {name: loss.item() for name, loss in theirs.items()}
        updates = []
        for model, losses, optimizer in (
            (self.model, ours, build_optimizer(self.cfg, self.model)),
            (self.peer.model, theirs, self.peer.optimizer()),
        ):
            sum(losses.values()).backward()
            before = {k: v.detach().clone() for k, v in model.named_parameters()}
            optimizer.step()
            optimizer.zero_grad()
            update = {k: v.detach() - before[k] for k, v in model.named_parameters()}
            model.load_state_dict(
                start if model is self.model else from_tood(start, "mmdet"), strict=True
            )
            updates.append(update)
        self.their_update = updates[1]
        expected, _ = to_tood(self.their_update, "mmdet")
        # Where nothing is updated here (frozen parts are buffers), nothing may be there.
        assert all(not expected[key].any() for key in expected.keys() - updates[0].keys())
        relative = sorted(
            difference_of_norm(update, expected[key])
            for key, update in updates[0].items()
            if expected[key].any()
        )
        return {
            "losses, relative": loss,
            "SGD step, median parameter": relative[len(relative) // 2],
            "worst parameter": relative[-1],
        }


def difference(a: Tensor, b: Tensor) -> float:
    """Largest absolute difference."""
    return (a - b).abs().max().item() if a.numel() else 0.0


def difference_of_norm(a: Tensor, b: Tensor) -> float:
    """Norm of the difference, relative to the norm."""
    return ((a - b).norm() / b.norm()).item()


def span(x: Tensor) -> float:
    """Its range."""
    return (x.max() - x.min()).item()


def golden_of(comparison: Comparison, name: str) -> dict[str, np.ndarray]:
    """MMDetection's losses, and of each parameter's update the norm and a random projection."""
    golden = {}
    for i, detections in enumerate(comparison.their_detections):
        for key in ("bboxes", "scores", "labels"):
            golden[f"{name}/dets{i}/{key}"] = detections[key].numpy()
    for phase in PHASES:
        comparison.step(phase)
        updates = comparison.their_update
        golden[f"{name}/names"] = np.array(list(updates))
        for loss, value in comparison.their_losses.items():
            golden[f"{name}/{phase}/{loss}"] = np.array(value)
        numbers = np.zeros((len(updates), 2))
        for row, (key, update) in zip(numbers, updates.items(), strict=True):
            random = np.random.RandomState(zlib.crc32(f"step:{key}".encode()))
            update = update.numpy()
            row[:] = np.linalg.norm(update), (update * random.standard_normal(update.shape)).sum()
        golden[f"{name}/{phase}/updates"] = numbers
    return golden


def main() -> None:
    """Compare, print, and write what was asked for."""
    args = parse_args()
    if args.weights and len(args.config) > 1:
        raise DataError("--weights are of one model: name it with --config")
    images = read_pictures(args.input, args.size)
    columns, golden = {}, {}
    for name in args.config:
        for dtype in (torch.float32, torch.float64):
            with precision(dtype):
                comparison = Comparison(name, args.weights, images, dtype)
                rows = comparison.forward()
                steps = [comparison.step(phase) for phase in PHASES]
                rows.update({key: max(step[key] for step in steps) for key in steps[0]})
                columns[f"{name}, {str(dtype)[6:]}"] = rows
                if args.golden and dtype == torch.float64:
                    golden.update(golden_of(comparison, name))
        print(f"{name}: done", file=sys.stderr, flush=True)
    body = [
        [column, *(v if isinstance(v, str) else f"{v:.0e}" for v in rows.values())]
        for column, rows in columns.items()
    ]
    print(
        tabulate(
            body, ["", *next(iter(columns.values()))], tablefmt="github", disable_numparse=True
        )
    )
    if args.golden:
        np.savez_compressed(args.golden, **golden)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
