"""The registry of one-stage heads, and what such a head takes and gives.

Shapes: **N** images, **L** levels, **Hi, Wi** the map of level i, **K** classes, **C** channels.
"""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry
from torch import nn

from ...registry import get_registered

DENSE_HEAD_REGISTRY = Registry("DENSE_HEAD")
DENSE_HEAD_REGISTRY.__doc__ = """
Heads of one-stage ("proposal-free") detectors, chosen by ``MODEL.TOOD.HEAD.NAME``. An entry is
called with ``(cfg, input_shape)``, the list of the levels' :class:`ShapeSpec`, and returns a
module with

``forward(features: list[Tensor], anchors: list[Tensor]) -> DensePredictions``

where the features are (N, C, Hi, Wi) and the anchors (Hi * Wi, 4) in image pixels, one a cell, row
by row.
"""


def build_dense_head(cfg: CfgNode, input_shape: list[ShapeSpec]) -> nn.Module:
    """Build the head named by ``cfg.MODEL.TOOD.HEAD.NAME``.

    Args:
        cfg: the config.
        input_shape: channels and stride of each level.

    Raises:
        ConfigError: no head of that name is registered.
    """
    name = cfg.MODEL.TOOD.HEAD.NAME
    return get_registered(DENSE_HEAD_REGISTRY, name, "MODEL.TOOD.HEAD.NAME")(cfg, input_shape)
