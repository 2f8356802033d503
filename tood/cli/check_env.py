"""``python -m tood.check``: the versions that matter, and one forward and backward pass."""

import platform
import sys
from pathlib import Path

import detectron2
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from .. import add_tood_config
from ..environment import version_of


def version_lines() -> list[str]:
    """What is installed, and where detectron2 came from.

    That torch and torchvision fit together was checked when this package was imported.
    """
    device = "no GPU is in use; everything runs on the CPU"
    if torch.cuda.is_available():
        device = (
            f"{torch.version.cuda}, {torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
        )
    return [
        f"Python       {platform.python_version()} ({sys.executable})",
        f"torch        {torch.__version__}",
        f"CUDA         {device}",
        f"torchvision  {version_of('torchvision')}",
        f"detectron2   {detectron2.__version__} ({_origin_of_detectron2()})",
        f"tood         {version_of('tood-detectron2')}",
    ]


def _origin_of_detectron2() -> str:
    """In words: how the detectron2 that is imported was installed, and where it lies."""
    folder = Path(detectron2.__path__[0])
    version = version_of("detectron2")
    if (folder / "_C.py").exists():
        origin = "pure Python from the package index"
    elif any(folder.glob("_C.*")):
        origin = "compiled from source"
    else:
        origin = "a source folder without its compiled code"
    return f"{origin}, package {version}, in {folder}"


def _forward_and_backward() -> str:
    """Train a small model for one step; returns a line that says how it went."""
    cfg = get_cfg()
    add_tood_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "TOOD"
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    cfg.MODEL.BACKBONE.NAME = "build_tood_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[64], [128], [256], [512], [1024]]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[1.0]]
    cfg.MODEL.TOOD.HEAD.CHANNELS = 64
    cfg.MODEL.TOOD.HEAD.NUM_DCN = 1
    model = build_model(cfg)
    instances = Instances((96, 128))
    instances.gt_boxes = Boxes(torch.tensor([[10.0, 10.0, 90.0, 80.0]]))
    instances.gt_classes = torch.tensor([3])
    batch = [{"image": torch.rand(3, 96, 128) * 255, "instances": instances}]
    losses = {}
    for phase in ("warmup", "aligned"):
        model.set_phase(phase)
        losses[phase] = sum(model(batch).values())
        losses[phase].backward()
    model.eval()
    with torch.no_grad():
        model([{"image": batch[0]["image"]}])
    values = ", ".join(f"{phase} loss {loss.item():.3f}" for phase, loss in losses.items())
    if not all(torch.isfinite(loss) for loss in losses.values()):
        raise SystemExit(f"forward and backward give no finite loss: {values}")
    return f"forward and backward on {cfg.MODEL.DEVICE}: {values}"


def main() -> None:
    """Print the report; the exit code is 1 if something does not work."""
    print("\n".join(version_lines()), flush=True)
    print(_forward_and_backward())


if __name__ == "__main__":
    main()
