"""DCNv2 against torchvision's operator, at the sizes of the head and of ResNet's stages."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torchvision
from torch import Tensor

from tood.modeling.layers import deform_conv2d
from tools.benchmark.harness import Case, Settings

# Name, channels, groups, deformable groups, height and width of the map.
SIZES = [
    ("head, P3 of 800x1216", 256, 1, 4, 100, 152),
    ("ResNet res4", 256, 1, 1, 50, 76),
    ("ResNet res5", 512, 1, 1, 25, 38),
    ("ResNeXt res4", 1024, 64, 1, 50, 76),
]


def dcn_cases(settings: Settings) -> Iterator[Case]:
    """Forward, and forward plus backward, for each of :data:`SIZES`."""
    for name, channels, groups, deform_groups, height, width in SIZES:
        options: dict[str, Any] = {"device": settings.device, "requires_grad": True}
        x = torch.randn(1, channels, height, width, **options)
        weight = torch.randn(channels, channels // groups, 3, 3, **options)
        offset = torch.randn(1, 18 * deform_groups, height, width, **options)
        mask = torch.rand(1, 9 * deform_groups, height, width, **options)
        ours, reference = (
            partial(function, x, offset, weight, mask=mask, padding=1)
            for function in (deform_conv2d, torchvision.ops.deform_conv2d)
        )
        no_grad, macs = torch.no_grad(), weight.numel() * height * width
        yield Case(f"DCNv2, {name}, forward", no_grad(ours), no_grad(reference), macs)
        yield Case(
            f"DCNv2, {name}, forward and backward",
            partial(_forward_backward, ours),
            partial(_forward_backward, reference),
            3 * macs,
        )


def _forward_backward(function: Callable[[], Tensor]) -> None:
    function().sum().backward()
