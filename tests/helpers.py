"""What several tests use."""

from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
DATA = Path(__file__).resolve().parent / "data"
STRIDES = [8, 16, 32, 64, 128]


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(DATA / name) as file:
        return {key: file[key] for key in file.files}


def tensor(array: np.ndarray) -> torch.Tensor:
    """A tensor of float32 or int64."""
    tensor = torch.from_numpy(np.asarray(array))
    return tensor.float() if tensor.is_floating_point() else tensor


def square_anchors(shapes: list[tuple[int, int]]) -> list[torch.Tensor]:
    """Anchors (Hi * Wi, 4) of 8 strides, centred on the cells' top left corners."""
    levels = []
    for (height, width), stride in zip(shapes, STRIDES, strict=True):
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centers = torch.stack([x, y], dim=-1).reshape(-1, 2) * float(stride)
        levels.append(torch.cat([centers - 4 * stride, centers + 4 * stride], dim=1))
    return levels


def assert_close_to_range(actual: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    """The largest difference is at most ``tolerance`` times the range of the expected values."""
    span = (expected.max() - expected.min()).item()
    difference = (actual - expected).abs().max().item()
    assert difference <= tolerance * span, f"{difference} > {tolerance} * {span}"
