"""What several tests use."""

import functools
import json
import os
import socket
from pathlib import Path

import numpy as np
import torch
from detectron2.modeling import build_model

from tood.config.loading import load_config
from tood.modeling.box_ops import box_area
from tood.modeling.structures import GroundTruth
from tools import STRIDES as STRIDES
from tools.reference.fuzz.scenes import square_anchors as square_anchors
from tools.reference.recipe import recipe_tensor

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
GOLDEN = Path(__file__).resolve().parent / "golden"

# The published models: our config, and its entry in state_dict_keys.json.
PUBLISHED = {
    "TOOD-R50-1x": "R50",
    "TOOD-R50-AnchorBased-1x": "R50-anchor-based",
    "TOOD-R50-2x": "R50",
    "TOOD-R101-2x": "R101",
    "TOOD-R101-DCN-2x": "R101-DCN",
    "TOOD-X101-64x4d-2x": "X101-64x4d",
    "TOOD-X101-64x4d-DCN-2x": "X101-64x4d-DCN",
}


def published_cfg(name: str):
    """The config of a published model, on the CPU and without weights."""
    return load_config(str(CONFIGS / f"{name}.yaml"), ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""])


@functools.lru_cache(maxsize=1)
def published_model(name: str) -> torch.nn.Module:
    """A published model as its config builds it. Shared: loading weights is all it is for."""
    return build_model(published_cfg(name))


def published_keys(name: str) -> dict:
    """MMDetection's keys and shapes of a published model's weights, and its numbers."""
    return json.loads((GOLDEN / "state_dict_keys.json").read_text())[PUBLISHED[name]]


def recipe_weights(name: str) -> dict[str, torch.Tensor]:
    """Weights of a published model with MMDetection's names, as the golden files have them."""
    shapes = published_keys(name)["state_dict"]
    return {key: torch.from_numpy(recipe_tensor(key, shape)) for key, shape in shapes.items()}


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / name) as file:
        return {key: file[key] for key in file.files}


def tensor(array: np.ndarray) -> torch.Tensor:
    """A tensor of float32 or int64."""
    tensor = torch.from_numpy(np.asarray(array))
    return tensor.float() if tensor.is_floating_point() else tensor


def assert_close_to_range(actual: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    """The largest difference is at most ``tolerance`` times the range of the expected values."""
    span = (expected.max() - expected.min()).item()
    difference = (actual - expected).abs().max().item()
    assert difference <= tolerance * span, f"{difference} > {tolerance} * {span}"


def make_ground_truth(boxes: object, classes: object) -> GroundTruth:
    """Ground truth of one image from arrays, lists or tensors."""
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return GroundTruth(boxes, torch.as_tensor(classes).long(), box_area(boxes))


def train_step(model: torch.nn.Module, batch: list[dict], phase: str) -> dict[str, torch.Tensor]:
    """Losses of one step in a phase, after backward."""
    model.set_phase(phase)
    losses = model(batch)
    sum(losses.values()).backward()
    return losses


def timm_cfg(name: str, *opts: object):
    """A config with a backbone of timm, with a narrow FPN and head and 3 classes, on the CPU."""
    narrow = ["MODEL.FPN.OUT_CHANNELS", 32, "MODEL.TOOD.HEAD.CHANNELS", 32]
    narrow += ["MODEL.TOOD.HEAD.NUM_CONVS", 2, "MODEL.TOOD.NUM_CLASSES", 3, "MODEL.DEVICE", "cpu"]
    narrow += ["SOLVER.REFERENCE_WORLD_SIZE", 0]
    return load_config(name, [*narrow, *opts])


def unused_port() -> int:
    """A port that nobody listens at, below those that the kernel gives to connections."""
    for port in range(20_000 + os.getpid() % 10_000, 32_000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError("all ports are used")
