"""A model whose function commutes with mirroring, but for its weights, which can be mirrored.

detectron2's backbones cannot be mirrored exactly: a 3x3 convolution of stride 2 reads one column
further to the left than to the right of an even-sized map. This one halves maps by averages.
"""

import copy

import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone, build_model
from torch import Tensor, nn

from tests.conftest import make_tiny_cfg
from tests.properties.strategies import generator
from tood.modeling.layers import ModulatedDeformConv

CHANNELS = 64  # GroupNorm needs two for each of its 32 groups where a map is one cell
STRIDES = {"p3": 8, "p4": 16, "p5": 32, "p6": 64, "p7": 128}
SIDES = [2, 1, 0, 3]  # left and right change places


class PooledPyramid(Backbone):
    """One convolution per level, between averages over 2x2 cells."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.levels = nn.ModuleList(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in STRIDES)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.stem(F.avg_pool2d(image, 4)).relu()
        features = {}
        for name, level in zip(STRIDES, self.levels, strict=True):
            x = features[name] = level(F.avg_pool2d(x, 2)).relu()
        return features

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {
            name: ShapeSpec(channels=CHANNELS, stride=stride) for name, stride in STRIDES.items()
        }

    @property
    def size_divisibility(self) -> int:
        return 128


@BACKBONE_REGISTRY.register()
def build_pooled_pyramid(cfg, input_shape):
    """Build the backbone."""
    return PooledPyramid()


# Layers whose outputs are exponents or distances in cells: ten times smaller, so that boxes have
# some hundred pixels, and rounding is not multiplied by the slopes of random maps.
SMALL = ("reg_offset_module.2", "conv_offset", "tood_reg", "bbox_pred")


def build_pooled_model(opts: list) -> nn.Module:
    """A narrow model with random weights, in eval mode."""
    cfg = make_tiny_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_pooled_pyramid"
    cfg.MODEL.ANCHOR_GENERATOR.OFFSET = 0.5  # in the middle of cells, as a mirrored grid needs it
    cfg.MODEL.TOOD.HEAD.CHANNELS = CHANNELS
    cfg.merge_from_list(opts)
    model = build_model(cfg).eval()
    g = generator(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                spread = (2 / parameter[0].numel()) ** 0.5
                spread *= 0.1 if any(part in name for part in SMALL) else 1.0
                parameter.copy_(torch.randn(parameter.shape, generator=g) * spread)
            elif "norm" not in name and name.endswith("bias"):
                parameter.copy_(torch.randn(parameter.shape, generator=g) * 0.1)
    return model


def mirrored(model: nn.Module, anchor_type: str) -> nn.Module:
    """A copy that does with mirrored images what the model does with images."""
    model = copy.deepcopy(model)
    head = model.head
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, ModulatedDeformConv)):
                module.weight.copy_(module.weight.flip(-1))
        for module in model.modules():
            if isinstance(module, ModulatedDeformConv):
                for parameter in (module.conv_offset.weight, module.conv_offset.bias):
                    parameter.copy_(_mirror_kernel_offsets(parameter))
        regression = head.tood_reg if hasattr(head, "tood_reg") else head.bbox_pred
        for parameter in (regression.weight, regression.bias):
            if anchor_type == "anchor_based":
                parameter[0].neg_()  # dx
            else:
                parameter.copy_(parameter[SIDES])
        if head.reg_offset_module is not None:
            output = head.reg_offset_module.output_conv
            for parameter in (output.weight, output.bias):
                pairs = parameter.unflatten(0, (4, 2))[SIDES]
                pairs[:, 1].neg_()  # dx of each side
                parameter.copy_(pairs.flatten(0, 1))
    return model


def _mirror_kernel_offsets(parameter: Tensor) -> Tensor:
    """Of the 27 channels per group: dy and dx of 3x3 kernel points, then their masks."""
    groups = len(parameter) // 27
    offsets, masks = parameter.split([18 * groups, 9 * groups])
    offsets = offsets.unflatten(0, (groups, 3, 3, 2)).flip(2).clone()
    offsets[:, :, :, 1].neg_()
    masks = masks.unflatten(0, (groups, 3, 3)).flip(2)
    return torch.cat([offsets.flatten(0, 3), masks.flatten(0, 2)])
