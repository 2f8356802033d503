"""Write the golden files in tests/golden that hold MMDetection 3.3.0's numbers.

python -m tools.reference.write_golden ablations   # ablations.npz
python -m tools.reference.write_golden published   # published_models.npz; takes minutes

Needs: pip install -e ".[mmdet]". "ablations": MMDetection's ATSS, FCOS (with its improvements),
FoveaBox and GFL heads (without the distribution focal loss, so QFL): random outputs of the last
convolutions, ground truth, losses and their gradients. Tests compare the assigners and criteria of
configs/ablations with them. "published": detections, losses and SGD steps of all published models
with random weights, computed in float64.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import tood  # noqa: F401  # imported first: reports missing dependencies

# isort: split
import torch
from torch import Tensor, nn

from tood.cli.common import exit_on_user_error
from tools import ROOT, level_shapes
from tools.reference.mmdet import MMDET_CONFIGS, import_mmdet
from tools.reference.outputs import Comparison, ModelOutputs, make_ground_truth
from tools.reference.recipe import random_images, random_projection

FOLDER = ROOT / "tests" / "golden"

HEIGHT, WIDTH, NUM_CLASSES, NUM_IMAGES = 96, 128, 4, 2
SHAPES = level_shapes(HEIGHT, WIDTH)

# Name -> MMDetection's config, and whether its head predicts centerness.
ABLATIONS = {
    "ATSS": ("atss/atss_r50_fpn_1x_coco.py", True),
    "FCOS": (
        "fcos/fcos_r50-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x_coco.py",
        True,
    ),
    "FoveaBox": ("foveabox/fovea_r50_fpn_4xb4-1x_coco.py", False),
    "QFL": ("gfl/gfl_r50_fpn_1x_coco.py", False),
}


def make_head(path: str) -> nn.Module:
    """Build MMDetection's head of a config with few channels and classes."""
    mmdet = import_mmdet()
    from mmengine.config import Config
    from mmengine.registry import MODELS

    cfg = Config.fromfile(str(Path(mmdet.__file__).parent / ".mim" / "configs" / path)).model
    head = cfg.bbox_head
    head.update(num_classes=NUM_CLASSES, in_channels=16, feat_channels=16)
    head.update(norm_cfg={"type": "GN", "num_groups": 4})
    head.update(train_cfg=cfg.get("train_cfg"), test_cfg=cfg.get("test_cfg"))
    return MODELS.build(head)


def random_ground_truth() -> tuple[Tensor, Tensor]:
    """Five boxes with sides of 8 to 88 pixels, and their classes."""
    size = 8 * 11 ** torch.rand(5, 2)
    corner = torch.rand(5, 2) * (torch.tensor([WIDTH, HEIGHT]) - size)
    return torch.cat([corner, corner + size], dim=1), torch.randint(NUM_CLASSES, (5,))


def run_ablation(name: str) -> dict[str, Tensor]:
    """Inputs, losses and gradients of an entry of :data:`ABLATIONS`."""
    from mmengine.structures import InstanceData

    path, centerness = ABLATIONS[name]
    head = make_head(path)
    sides = 4 * (head.reg_max + 1) if name == "QFL" else 4
    maps = {
        "cls": [torch.randn(NUM_IMAGES, NUM_CLASSES, *shape) - 2 for shape in SHAPES],
        "reg": [0.3 * torch.randn(NUM_IMAGES, sides, *s) + (name != "ATSS") for s in SHAPES],
    }
    if centerness:
        maps["centerness"] = [torch.randn(NUM_IMAGES, 1, *shape) for shape in SHAPES]
    leaves = {key: [level.requires_grad_() for level in levels] for key, levels in maps.items()}
    inputs = dict(leaves)
    if name == "FCOS":  # its forward() clamps after the last convolution
        inputs["reg"] = [level.clamp(min=0) for level in leaves["reg"]]
    truth = [random_ground_truth() for _ in range(NUM_IMAGES)]
    instances = [InstanceData(bboxes=boxes, labels=classes) for boxes, classes in truth]
    meta = {"img_shape": (HEIGHT, WIDTH), "pad_shape": (HEIGHT, WIDTH)}
    losses = head.loss_by_feat(*inputs.values(), instances, [meta] * NUM_IMAGES)
    losses.pop("loss_dfl", None)
    total = {key: sum(v) if isinstance(v, list) else v for key, v in losses.items()}
    sum(total.values()).backward()
    result = {f"{name}/{key}": value.detach() for key, value in total.items()}
    for i, (boxes, classes) in enumerate(truth):
        result[f"{name}/gt_boxes{i}"], result[f"{name}/gt_classes{i}"] = boxes, classes
    for key, levels in leaves.items():
        for kind, tensors in (("map", levels), ("grad", [level.grad for level in levels])):
            flat = torch.cat([t.detach().flatten(2) for t in tensors], dim=2)
            result[f"{name}/{key}/{kind}"] = flat
    if name == "QFL":  # store the means of the distributions, without gradients
        distances = head.integral(result.pop("QFL/reg/map").transpose(1, 2).flatten(0, 1))
        result["QFL/reg/map"] = distances.view(NUM_IMAGES, -1, 4).transpose(1, 2)
        result.pop("QFL/reg/grad")
    return result


def ablation_arrays() -> dict[str, np.ndarray]:
    """The contents of ablations.npz."""
    arrays = {}
    for seed, name in enumerate(ABLATIONS):
        torch.manual_seed(seed)
        arrays.update({key: value.numpy() for key, value in run_ablation(name).items()})
    return arrays


def published_arrays() -> dict[str, np.ndarray]:
    """The contents of published_models.npz. Images are BGR."""
    images = random_images()
    arrays: dict[str, np.ndarray] = {}
    for name in MMDET_CONFIGS:
        outputs = Comparison(name, images, None, torch.float64).run_reference()
        arrays.update(summarize(outputs, name))
        print(f"{name}: done", file=sys.stderr, flush=True)
    for i, image in enumerate(images):
        boxes, classes = make_ground_truth(image, i)
        arrays[f"image{i}"] = image[..., ::-1]
        arrays[f"boxes{i}"], arrays[f"classes{i}"] = boxes.numpy(), classes.numpy()
    return arrays


def summarize(outputs: ModelOutputs, name: str) -> dict[str, np.ndarray]:
    """Detections, losses, and the norm and a random projection of each parameter's update."""
    arrays = {f"{name}/{key}": np.array(loss) for key, loss in outputs.losses.items()}
    for i, detections in enumerate(outputs.detections):
        for key, value in zip(("boxes", "scores", "classes"), detections, strict=True):
            arrays[f"{name}/detections{i}/{key}"] = value.numpy()
    for phase, updates in outputs.updates.items():
        numbers = np.zeros((len(updates), 2))
        for row, (key, update) in zip(numbers, updates.items(), strict=True):
            row[:] = update.norm().item(), random_projection(f"step:{key}", update.numpy())
        arrays[f"{name}/{phase}/names"] = np.array(list(updates))
        arrays[f"{name}/{phase}/updates"] = numbers
    return arrays


FILES = {
    "ablations": ("ablations.npz", ablation_arrays),
    "published": ("published_models.npz", published_arrays),
}


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.reference.write_golden",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("which", choices=FILES)
    parser.add_argument("--output", help="folder (default: tests/golden)", default=str(FOLDER))
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the chosen file.

    Args:
        argv: command line; None for that of the process.
    """
    args = make_parser().parse_args(argv)
    name, make_arrays = FILES[args.which]
    path = Path(args.output) / name
    np.savez_compressed(path, **make_arrays())
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
