"""The registry of one-stage heads, and what such a head takes and gives.

Shapes: **N** images, **L** levels, **Hi, Wi** the map of level i, **K** classes, **C** channels.
"""

from typing import NamedTuple

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry
from torch import Tensor, nn

from ...registry import look_up

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
        pred_centerness: per level (N, 1, Hi, Wi), probabilities, from heads that have such a
            branch: detections are ranked by the score times this.
    """

    pred_scores: list[Tensor]
    pred_boxes: list[Tensor]
    pred_centerness: list[Tensor] | None = None

    def of_image(
        self, index: int, strides: list[int]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor] | None]:
        """The predictions for one image, boxes in pixels.

        Args:
            index: of the image in the batch.
            strides: of the levels.

        Returns:
            Per level scores (Hi * Wi, K), boxes (Hi * Wi, 4), and centerness (Hi * Wi, 1) or None.
        """

        def flat(levels: list[Tensor]) -> list[Tensor]:
            return [level[index].flatten(1).t() for level in levels]

        boxes = zip(flat(self.pred_boxes), strides, strict=True)
        return (
            flat(self.pred_scores),
            [level * stride for level, stride in boxes],
            None if self.pred_centerness is None else flat(self.pred_centerness),
        )


def build_dense_head(cfg: CfgNode, input_shape: list[ShapeSpec]) -> nn.Module:
    """Build the head named by ``cfg.MODEL.TOOD.HEAD.NAME``.

    Args:
        cfg: the config.
        input_shape: channels and stride of each level.

    Raises:
        ConfigError: no head of that name is registered.
    """
    name = cfg.MODEL.TOOD.HEAD.NAME
    return look_up(DENSE_HEAD_REGISTRY, name, "MODEL.TOOD.HEAD.NAME")(cfg, input_shape)
