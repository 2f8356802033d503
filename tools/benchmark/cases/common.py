"""Models, images and ground truth of the cases."""

import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from torch import Tensor

from tood.analysis.complexity import count_parts
from tood.config.loading import load_config
from tood.errors import ConfigError
from tood.modeling.meta_arch import TOOD
from tools import CONFIGS, level_shapes
from tools.benchmark.harness import Settings
from tools.reference.mmdet import MMDetTOOD, build_reference


def build_models(name: str, settings: Settings) -> tuple[TOOD, MMDetTOOD | None]:
    """Our model of a published config, and MMDetection's with the same weights if installed."""
    cfg = load_config(str(CONFIGS / f"{name}.yaml"), ["MODEL.DEVICE", settings.device])
    model = build_model(cfg)
    try:
        reference = build_reference(name, model)
    except ConfigError:
        return model, None
    reference.model.to(settings.device)
    return model, reference


def random_ground_truth(
    count: int, height: int, width: int, device: str, num_classes: int = 80
) -> tuple[Tensor, Tensor]:
    """Boxes (count, 4) with sides of 16 to 400 pixels, and classes (count,)."""
    sides = 16 * 25 ** torch.rand(count, 2)
    corner = torch.rand(count, 2) * (torch.tensor([width, height]) - sides).clamp(min=1)
    classes = torch.randint(num_classes, (count,), device=device)
    return torch.cat([corner, corner + sides], dim=1).to(device), classes


def random_inputs(settings: Settings) -> list[dict]:
    """A batch of noise for our model."""
    width, height = settings.size
    image = torch.rand(3, height, width, device=settings.device) * 255
    return [{"image": image}] * settings.batch


def random_features(
    model: TOOD, batch: int, size: tuple[int, int], device: str
) -> dict[str, Tensor]:
    """Noise in place of the FPN's maps for images of (height, width)."""
    return {
        name: torch.randn(batch, 256, *shape, device=device)
        for name, shape in zip(model.head_in_features, level_shapes(*size), strict=True)
    }


def make_instances(size: tuple[int, int], boxes: Tensor, classes: Tensor) -> Instances:
    """Ground truth of an image of (height, width) for our model."""
    return Instances(size, gt_boxes=Boxes(boxes), gt_classes=classes)


def count_macs(model: TOOD, size: tuple[int, int], part: str) -> float:
    """Multiply-adds of a part of a model for one image of (width, height)."""
    flops = count_parts(model, size)[part]
    return flops["conv"] + flops["matmul"]
