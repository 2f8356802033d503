"""What the cases of tools/benchmark.py share: settings, models, ground truth."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from detectron2.modeling import build_model
from torch import Tensor

from tood.config.loading import load_config
from tood.errors import ConfigError
from tood.modeling.meta_arch import TOOD
from tools.reference.mmdet import MMDetTOOD, peer_of

ROOT = Path(__file__).resolve().parents[2]
STRIDES = [8, 16, 32, 64, 128]


@dataclass
class Settings:
    """What the command line chose.

    Attributes:
        device: "cpu" or "cuda".
        amp: name of autocast's dtype; None for float32.
        batch: images in the cases of whole models.
        size: (width, height) of their images.
        ground_truths: counts in one image, for the cases of assigners.
    """

    device: str
    amp: str | None
    batch: int
    size: tuple[int, int]
    ground_truths: list[int]


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


def ground_truth(
    count: int, height: int, width: int, device: str, num_classes: int = 80
) -> tuple[Tensor, Tensor]:
    """Boxes of 16 to 400 pixels and classes."""
    size = 16 * 25 ** torch.rand(count, 2)
    corner = torch.rand(count, 2) * (torch.tensor([width, height]) - size).clamp(min=1)
    classes = torch.randint(num_classes, (count,), device=device)
    return torch.cat([corner, corner + size], dim=1).to(device), classes
