"""DCNv2 against torchvision's operator, at the sizes of the head and of ResNet's stages."""

from collections.abc import Iterator

import torch
import torchvision

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
        options = {"device": settings.device, "requires_grad": True}
        x = torch.randn(1, channels, height, width, **options)
        weight = torch.randn(channels, channels // groups, 3, 3, **options)
        offset = torch.randn(1, 18 * deform_groups, height, width, **options)
        mask = torch.rand(1, 9 * deform_groups, height, width, **options)
        sides = [
            lambda f=f, a=(x, offset, weight), m=mask: f(*a, mask=m, padding=1)
            for f in (deform_conv2d, torchvision.ops.deform_conv2d)
        ]
        macs = weight.numel() * height * width
        yield Case(f"DCNv2, {name}, forward", *map(torch.no_grad(), sides), macs)
        backward = [lambda f=f: f().sum().backward() for f in sides]
        yield Case(f"DCNv2, {name}, forward and backward", *backward, 3 * macs)
