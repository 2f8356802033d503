"""A backbone of a few thousand parameters, for tests that train in many processes.

Name this file in MODEL.TOOD.CUSTOM_IMPORTS, and ``build_tiny_backbone`` in MODEL.BACKBONE.NAME, or
``build_tiny_bn_backbone`` for one with statistics that are trained.
"""

from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn

CHANNELS = 64
STRIDES = {"p3": 8, "p4": 16, "p5": 32, "p6": 64, "p7": 128}


class TinyBackbone(Backbone):
    """One convolution per level, after a stem with or without batch normalization."""

    def __init__(self, has_norm: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, CHANNELS, 7, stride=4, padding=3)
        self.norm = nn.BatchNorm2d(CHANNELS) if has_norm else nn.Identity()
        self.levels = nn.ModuleList(
            nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1) for _ in STRIDES
        )
        for parameter in self.stem.parameters():
            parameter.requires_grad_(False)  # as the stem of a pretrained backbone

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.norm(self.stem(image)).relu()
        features = {}
        for name, level in zip(STRIDES, self.levels, strict=True):
            x = features[name] = level(x).relu()
        return features

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {
            name: ShapeSpec(channels=CHANNELS, stride=stride) for name, stride in STRIDES.items()
        }

    @property
    def size_divisibility(self) -> int:
        return 128


@BACKBONE_REGISTRY.register()
def build_tiny_backbone(cfg, input_shape):
    """Build the backbone."""
    return TinyBackbone()


@BACKBONE_REGISTRY.register()
def build_tiny_bn_backbone(cfg, input_shape):
    """Build the backbone with batch normalization."""
    return TinyBackbone(has_norm=True)
