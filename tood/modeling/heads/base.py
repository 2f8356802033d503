"""The registry of one-stage heads, and their base class.

Shapes: **N** images, **L** levels, **Hi, Wi** the map of level i, **K** classes, **C** channels.
"""

from typing import ClassVar

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry
from torch import Tensor, nn

from ...errors import ConfigError
from ...registry import get_registered
from ..structures import DensePredictions
from .box_coding import Scale
from .common import common_head_args, validate_head_args

DENSE_HEAD_REGISTRY = Registry("DENSE_HEAD")
DENSE_HEAD_REGISTRY.__doc__ = """
Heads of one-stage ("proposal-free") detectors, chosen by ``MODEL.TOOD.HEAD.NAME``. An entry is
called with ``(cfg, input_shape)``, where ``input_shape`` lists the levels' :class:`ShapeSpec`, and
returns a module with

``forward(features: list[Tensor], anchors: list[Tensor]) -> DensePredictions``

Features are (N, C, Hi, Wi); anchors are (Hi * Wi, 4) in image pixels, one per cell, row by row. An
optional attribute ``class_specific_parameters`` names the parameters whose first dimension is the
class: where a checkpoint has other classes, those of the same name keep their rows.
"""


class DenseHead(nn.Module):
    """Base class of this project's heads: shared arguments, and the loop over the levels.

    Args:
        in_channels: channels of the input features.
        num_classes: K.
        strides: stride of each level, in pixels.
        num_convs: stacked convolutions.
        channels: C, channels of each of them.
        norm: detectron2's name of their normalization; "" for none.
        num_dcn: how many of them, from the first on, are deformable (DCNv2).
        anchor_type: what is regressed, one of :data:`~tood.modeling.heads.box_coding.ANCHOR_TYPES`.
        prior_prob: score of every point at the start of training.

    Raises:
        ValueError: unknown ``anchor_type``, or inconsistent counts.
    """

    class_specific_parameters: ClassVar[tuple[str, ...]] = ()
    predicts_centerness = False

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        strides: list[int],
        num_convs: int,
        channels: int = 256,
        norm: str = "GN",
        num_dcn: int = 0,
        anchor_type: str = "anchor_free",
        prior_prob: float = 0.01,
    ) -> None:
        super().__init__()
        validate_head_args(anchor_type, num_classes, num_convs, num_dcn)
        self.in_channels, self.num_classes, self.strides = in_channels, num_classes, strides
        self.num_convs, self.channels, self.norm, self.num_dcn = num_convs, channels, norm, num_dcn
        self.anchor_type, self.prior_prob = anchor_type, prior_prob
        self.scales = nn.ModuleList(Scale() for _ in strides)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict:
        """Constructor arguments from ``cfg.MODEL.TOOD`` and the shapes of the levels."""
        return common_head_args(cfg, input_shape)

    def forward(self, features: list[Tensor], anchors: list[Tensor]) -> DensePredictions:
        """Predict on all levels.

        Args:
            features: per level (N, C_in, Hi, Wi).
            anchors: per level (Hi * Wi, 4) in image pixels, one per cell, row by row.

        Returns:
            Scores, boxes in pixels, and centerness if the head predicts it.
        """
        levels = zip(features, anchors, self.scales, self.strides, strict=True)
        scores, boxes, centerness = zip(*(self.forward_level(*x) for x in levels), strict=True)
        return DensePredictions(
            list(scores),
            # The only place where boxes change from strides to pixels. Strides are powers of two,
            # so that this is exact.
            [level * stride for level, stride in zip(boxes, self.strides, strict=True)],
            None if centerness[0] is None else list(centerness),
        )

    def forward_level(
        self, x: Tensor, anchors: Tensor, scale: Scale, stride: int
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Predict on one level.

        Args:
            x: (N, C_in, Hi, Wi).
            anchors: (Hi * Wi, 4) in image pixels.
            scale: the level's learned factor of the regression output.
            stride: of the level, in pixels.

        Returns:
            In float32 scores (N, K, Hi, Wi), boxes (N, 4, Hi, Wi) in **strides**, and centerness
            (N, 1, Hi, Wi) or None.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement forward_level")


def build_dense_head(cfg: CfgNode, input_shape: list[ShapeSpec]) -> nn.Module:
    """Build the head named by ``cfg.MODEL.TOOD.HEAD.NAME``.

    Args:
        cfg: the config.
        input_shape: channels and stride of each level.

    Raises:
        ConfigError: no head of that name is registered, or its arguments are inconsistent.
    """
    name = cfg.MODEL.TOOD.HEAD.NAME
    head_class = get_registered(DENSE_HEAD_REGISTRY, name, "MODEL.TOOD.HEAD.NAME")
    try:
        return head_class(cfg, input_shape)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"MODEL.TOOD, keys of the head {name}: {error}") from error
