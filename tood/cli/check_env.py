"""``tood check-env``: the versions that matter, and one forward and backward pass."""

import argparse
import importlib
import math
import platform
import sys
from pathlib import Path

import detectron2
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from tood_runtime.cli.parser import EXIT_OK
from tood_runtime.install_detectron2 import SETUPTOOLS

from ..config import add_tood_config
from ..config.device import resolve_device
from ..environment import version_of
from ..errors import TOODError


def main(args: argparse.Namespace) -> int:
    """Print the report; raises a TOODError if training does not work here."""
    print("\n".join(version_lines()), flush=True)
    print(run_one_step())
    return EXIT_OK


def version_lines() -> list[str]:
    """What is installed, and where detectron2 comes from.

    That torch and torchvision fit together was checked when this package was imported.
    """
    device = "no GPU; everything runs on the CPU"
    if torch.cuda.is_available():
        count, name = torch.cuda.device_count(), torch.cuda.get_device_name()
        device = f"{torch.version.cuda}, {count} x {name}"
    return [
        f"Python       {platform.python_version()} ({sys.executable})",
        f"torch        {torch.__version__}",
        f"CUDA         {device}",
        f"torchvision  {version_of('torchvision')}",
        f"detectron2   {detectron2.__version__} ({_origin_of_detectron2()})",
        *_model_zoo_lines(),
        f"tood         {version_of('tood-detectron2')}",
    ]


def _origin_of_detectron2() -> str:
    """How the imported detectron2 was installed, and where it is."""
    folder = Path(detectron2.__path__[0])
    version = version_of("detectron2")
    if (folder / "_C.py").exists():
        origin = "pure Python from the package index"
    elif any(folder.glob("_C.*")):
        origin = "compiled from source"
    else:
        origin = "a source folder without its compiled code"
    return f"{origin}, package {version}, in {folder}"


def _model_zoo_lines() -> list[str]:
    """One line if detectron2's model zoo does not import; tood itself does not use it."""
    try:
        importlib.import_module("detectron2.model_zoo")
    except ModuleNotFoundError as error:
        if error.name != "pkg_resources":
            raise
        return [f"             its model_zoo does not import. Fix: pip install '{SETUPTOOLS}'"]
    return []


def _small_config() -> CfgNode:
    """A config that builds and trains within seconds."""
    cfg = get_cfg()
    add_tood_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "TOOD"
    cfg.MODEL.DEVICE = resolve_device("auto")
    cfg.MODEL.BACKBONE.NAME = "build_tood_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[64], [128], [256], [512], [1024]]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[1.0]]
    cfg.MODEL.TOOD.HEAD.CHANNELS = 64
    cfg.MODEL.TOOD.HEAD.NUM_DCN = 1
    return cfg


def run_one_step() -> str:
    """Run a small model forward and backward in both phases, and once for detection.

    Returns:
        A line that says how it went.

    Raises:
        TOODError: a loss is not finite.
    """
    cfg = _small_config()
    model = build_model(cfg)
    instances = Instances((96, 128))
    instances.gt_boxes = Boxes(torch.tensor([[10.0, 10.0, 90.0, 80.0]]))
    instances.gt_classes = torch.tensor([3])
    batch = [{"image": torch.rand(3, 96, 128) * 255, "instances": instances}]
    losses = {}
    for phase in ("warmup", "aligned"):
        model.set_phase(phase)
        loss = sum(model(batch).values())
        loss.backward()
        losses[phase] = loss.item()
    model.eval()
    with torch.no_grad():
        model([{"image": batch[0]["image"]}])
    values = ", ".join(f"{phase} loss {loss:.3f}" for phase, loss in losses.items())
    if not all(map(math.isfinite, losses.values())):
        raise TOODError(
            f"A loss is not finite: {values}. Reinstall torch and torchvision, and report this "
            "with the lines above."
        )
    return f"forward and backward on {cfg.MODEL.DEVICE}: {values}"
