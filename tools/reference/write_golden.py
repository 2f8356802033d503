"""Write tests/data/ablations.npz: what MMDetection 3.3.0's other one-stage heads make of noise.

tools/make_ablation_golden.py            # needs: pip install -e ".[mmdet]"

For ATSS, FCOS (with its improvements), FoveaBox and GFL (without its distribution's loss, so QFL):
random outputs of the last convolutions, ground truth, the losses, and their gradients. The tests
hold assigners and criteria of configs/ablations to them.
"""

from pathlib import Path

import numpy as np

import tood  # noqa: F401  (before the others: it explains what is missing)

# isort: split
import torch
from torch import Tensor, nn

from tood.errors import exit_on_user_error
from tools.reference.mmdet import import_mmdet

FILE = Path(__file__).resolve().parents[2] / "tests" / "golden" / "ablations.npz"

HEIGHT, WIDTH, NUM_CLASSES, NUM_IMAGES = 96, 128, 4, 2
STRIDES = [8, 16, 32, 64, 128]
SHAPES = [(-(-HEIGHT // stride), -(-WIDTH // stride)) for stride in STRIDES]

# MMDetection's config; and whether its head predicts centerness.
CASES = {
    "ATSS": ("atss/atss_r50_fpn_1x_coco.py", True),
    "FCOS": (
        "fcos/fcos_r50-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x_coco.py",
        True,
    ),
    "FoveaBox": ("foveabox/fovea_r50_fpn_4xb4-1x_coco.py", False),
    "QFL": ("gfl/gfl_r50_fpn_1x_coco.py", False),
}


def make_head(path: str) -> nn.Module:
    """MMDetection's head of a config, with few channels and classes."""
    mmdet = import_mmdet()
    from mmengine.config import Config
    from mmengine.registry import MODELS

    cfg = Config.fromfile(str(Path(mmdet.__file__).parent / ".mim" / "configs" / path)).model
    head = cfg.bbox_head
    head.update(num_classes=NUM_CLASSES, in_channels=16, feat_channels=16)
    head.update(norm_cfg={"type": "GN", "num_groups": 4})
    head.update(train_cfg=cfg.get("train_cfg"), test_cfg=cfg.get("test_cfg"))
    return MODELS.build(head)


def ground_truth() -> tuple[Tensor, Tensor]:
    """Five boxes of 8 to 90 pixels."""
    size = 8 * 11 ** torch.rand(5, 2)
    corner = torch.rand(5, 2) * (torch.tensor([WIDTH, HEIGHT]) - size)
    return torch.cat([corner, corner + size], dim=1), torch.randint(NUM_CLASSES, (5,))


def run(name: str) -> dict[str, Tensor]:
    """Inputs, losses and gradients of a case."""
    from mmengine.structures import InstanceData

    path, centerness = CASES[name]
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
    if name == "FCOS":  # what its forward() does after the last convolution
        inputs["reg"] = [level.clamp(min=0) for level in leaves["reg"]]
    truth = [ground_truth() for _ in range(NUM_IMAGES)]
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
    if name == "QFL":  # the distances that the distributions mean, and no gradient to them
        distances = head.integral(result.pop("QFL/reg/map").transpose(1, 2).flatten(0, 1))
        result["QFL/reg/map"] = distances.view(NUM_IMAGES, -1, 4).transpose(1, 2)
        result.pop("QFL/reg/grad")
    return result


def main() -> None:
    """Write the file."""
    arrays = {}
    for seed, name in enumerate(CASES):
        torch.manual_seed(seed)
        arrays.update({key: value.numpy() for key, value in run(name).items()})
    np.savez_compressed(FILE, **arrays)
    print(f"{FILE}: {FILE.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
