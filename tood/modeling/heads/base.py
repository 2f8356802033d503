"""The registry of one-stage heads, and what such a head takes and gives.

Shapes: **N** images, **L** levels, **Hi, Wi** the map of level i, **K** classes, **C** channels.
"""

from typing import NamedTuple

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry
from torch import Tensor, nn

DENSE_HEAD_REGISTRY = Registry("DENSE_HEAD")
DENSE_HEAD_REGISTRY.__doc__ = """
Heads of one-stage ("proposal-free") detectors, chosen by ``MODEL.TOOD.HEAD.NAME``. An entry is
called with ``(cfg, input_shape)``, the list of the levels' :class:`ShapeSpec`, and returns a
module with

``forward(features: list[Tensor], anchors: list[Tensor]) -> DenseHeadOutput``

where the features are (N, C, Hi, Wi) and the anchors (Hi * Wi, 4) in image pixels, one a cell, row
by row.
"""


class DenseHeadOutput(NamedTuple):
    """Predictions of a one-stage head, level by level, in float32.

    Attributes:
        pred_scores: per level (N, K, Hi, Wi), probabilities.
        pred_boxes: per level (N, 4, Hi, Wi), x1, y1, x2, y2 in strides of the level.
    """

    pred_scores: list[Tensor]
    pred_boxes: list[Tensor]


def build_dense_head(cfg: CfgNode, input_shape: list[ShapeSpec]) -> nn.Module:
    """Build the head named by ``cfg.MODEL.TOOD.HEAD.NAME``.

    Args:
        cfg: the config.
        input_shape: channels and stride of each level.

    Raises:
        KeyError: no head of that name is registered.
    """
    return DENSE_HEAD_REGISTRY.get(cfg.MODEL.TOOD.HEAD.NAME)(cfg, input_shape)
