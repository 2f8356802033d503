"""The task-aligned head, T-head (paper: section 3.1).

Shapes: **N** images, **Hi, Wi** the map of level i, **K** classes, **C** channels. Boxes are
(x1, y1, x2, y2) in strides of their level unless said otherwise.
"""

import math

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from torch import Tensor, nn

from ...errors import ConfigError
from ..box_ops import box_centers, deltas_to_boxes, distances_to_boxes
from ..layers import ModulatedDeformConv, pointwise_per_image, sample_per_channel
from .base import DENSE_HEAD_REGISTRY, DenseHeadOutput

ANCHOR_TYPES = ("anchor_free", "anchor_based")

# Deformable groups of the head's deformable convolutions, as in both reference implementations.
DEFORM_GROUPS = 4

# exp() of the regression output is cut here: e^20 strides are far outside of every image, and an
# infinite side would turn the gradients of the whole batch into NaN.
MAX_LOG_DISTANCE = 20.0


def _conv(
    in_channels: int, out_channels: int, kernel_size: int, norm: str, num_deform_groups: int = 0
) -> nn.Module:
    """Convolution, normalisation and ReLU; deformable if ``num_deform_groups`` is not 0."""
    common = {
        "bias": not norm,
        "norm": get_norm(norm, out_channels),
        "activation": torch.relu_,
    }
    if num_deform_groups:
        return ModulatedDeformConv(
            in_channels, out_channels, kernel_size, deform_groups=num_deform_groups, **common
        )
    return Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, **common)


class Scale(nn.Module):
    """A learned factor, one per level."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply ``x`` by the factor."""
        return x * self.scale


class TaskDecomposition(nn.Module):
    """Layer attention over the stack of interactive features, then reduction (paper: eqs. 2-4).

    The attention w of an image and level multiplies the blocks of the reduction's weight, which is
    the same as multiplying the layers' features, for less work.

    Args:
        channels: C, of each interactive layer and of the output.
        num_layers: how many layers the stack has.
        norm: detectron2's name of the normalisation, "" for none.
        reduction: the attention's hidden layer has C / reduction channels.
    """

    def __init__(self, channels: int, num_layers: int, norm: str, reduction: int = 8) -> None:
        super().__init__()
        self.num_layers = num_layers
        hidden = max(channels // reduction, 1)
        self.layer_attention = nn.Sequential(
            nn.Conv2d(channels * num_layers, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, num_layers, 1),
            nn.Sigmoid(),
        )
        self.reduction_conv = _conv(channels * num_layers, channels, 1, norm)

    def weight(self, pooled: Tensor) -> Tensor:
        """The reduction's weight with the attention in it, of each image: (N, C, num_layers * C).

        Args:
            pooled: (N, num_layers * C, 1, 1), the mean of the stack over the map.
        """
        attention = self.layer_attention(pooled).reshape(len(pooled), 1, self.num_layers, 1)
        conv = self.reduction_conv
        weight = conv.weight.reshape(1, conv.out_channels, self.num_layers, -1) * attention
        return weight.flatten(2)

    def finish(self, reduced: Tensor) -> Tensor:
        """Features of the task (N, C, H, W), from the product of stack and weight."""
        conv = self.reduction_conv
        if conv.bias is not None:
            reduced = reduced + conv.bias[:, None, None]
        return conv.activation(reduced if conv.norm is None else conv.norm(reduced))

    def forward(self, stack: Tensor) -> Tensor:
        """Features of the task (N, C, H, W) from the stack of layers (N, num_layers * C, H, W)."""
        pooled = F.adaptive_avg_pool2d(stack, 1)
        return self.finish(pointwise_per_image(stack, self.weight(pooled)))


@DENSE_HEAD_REGISTRY.register()
class TOODHead(nn.Module):
    """T-head: task-interactive features and a task-aligned predictor (TAP).

    A stack of convolutions shared by both tasks and all levels; a :class:`TaskDecomposition` for
    each task; classification scores sqrt(P * M) with the spatial probability map M (eqs. 5, 7); and
    boxes whose sides are resampled, each by its own learned offset (eqs. 6, 8). Where resampling
    turns a box inside out, the box before resampling takes its place (MMDetection 3.x; the
    authors keep the inverted box). Scores, decoding and resampling are computed in float32.

    Args:
        in_channels: channels of the input features.
        num_classes: K.
        strides: stride of each level, in pixels.
        num_convs: interactive layers.
        channels: C, channels of each layer.
        norm: detectron2's name of the normalisation.
        num_dcn: how many of the interactive layers, from the first on, are deformable (DCNv2).
        anchor_type: ``"anchor_free"``: boxes from the distances of the four sides to the point;
            ``"anchor_based"``: from deltas to the anchor.
        prior_prob: score of every point at the start of training.

    Raises:
        ConfigError: an unknown anchor_type, or counts that make no sense.
    """

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        strides: list[int],
        num_convs: int = 6,
        channels: int = 256,
        norm: str = "GN",
        num_dcn: int = 0,
        anchor_type: str = "anchor_free",
        prior_prob: float = 0.01,
    ) -> None:
        super().__init__()
        if anchor_type not in ANCHOR_TYPES:
            raise ConfigError(
                f"MODEL.TOOD.ANCHOR_TYPE is {anchor_type!r}; it must be one of {ANCHOR_TYPES}"
            )
        if num_classes < 1 or num_convs < 1 or not 0 <= num_dcn <= num_convs:
            raise ConfigError(
                f"num_classes ({num_classes}) and num_convs ({num_convs}) must be at least 1, and "
                f"num_dcn ({num_dcn}) between 0 and num_convs"
            )
        self.num_classes, self.strides, self.anchor_type = num_classes, strides, anchor_type

        self.inter_convs = nn.ModuleList(
            _conv(
                channels if i else in_channels,
                channels,
                3,
                norm,
                num_deform_groups=DEFORM_GROUPS if i < num_dcn else 0,
            )
            for i in range(num_convs)
        )
        self.cls_decomp = TaskDecomposition(channels, num_convs, norm)
        self.reg_decomp = TaskDecomposition(channels, num_convs, norm)
        self.tood_cls = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.tood_reg = nn.Conv2d(channels, 4, 3, padding=1)
        self.cls_prob_module = self._alignment_module(channels, num_convs, 1)
        self.reg_offset_module = self._alignment_module(channels, num_convs, 8)
        self.scales = nn.ModuleList(Scale() for _ in strides)
        self._init_weights(prior_prob)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict:
        """Constructor arguments from ``cfg.MODEL.TOOD`` and the shapes of the levels."""
        in_channels = {shape.channels for shape in input_shape}
        if len(in_channels) != 1:
            raise ValueError(f"the levels have different channels: {sorted(in_channels)}")
        node = cfg.MODEL.TOOD
        return {
            "in_channels": in_channels.pop(),
            "num_classes": node.NUM_CLASSES,
            "strides": [shape.stride for shape in input_shape],
            "num_convs": node.HEAD.NUM_CONVS,
            "channels": node.HEAD.CHANNELS,
            "norm": node.HEAD.NORM,
            "num_dcn": node.HEAD.NUM_DCN,
            "anchor_type": node.ANCHOR_TYPE,
            "prior_prob": node.HEAD.PRIOR_PROB,
        }

    @staticmethod
    def _alignment_module(channels: int, num_convs: int, out_channels: int) -> nn.Sequential:
        """The small network that reads M or O off the stack of interactive features."""
        hidden = max(channels // 4, 1)
        return nn.Sequential(
            nn.Conv2d(channels * num_convs, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, out_channels, 3, padding=1),
        )

    def _init_weights(self, prior_prob: float) -> None:
        """Normal weights of standard deviation 0.01 (0.001 where alignment starts), biases 0."""
        for name, module in self.named_modules():
            if name.endswith("conv_offset"):
                continue
            if isinstance(module, (nn.Conv2d, ModulatedDeformConv)):
                careful = "layer_attention" in name or "reg_offset_module" in name
                nn.init.normal_(module.weight, std=0.001 if careful else 0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        # Each of the two factors of the score starts at prior_prob, and so does their mean.
        bias = -math.log((1 - prior_prob) / prior_prob)
        nn.init.constant_(self.tood_cls.bias, bias)
        nn.init.constant_(self.cls_prob_module[-1].bias, bias)

    def forward(self, features: list[Tensor], anchors: list[Tensor]) -> DenseHeadOutput:
        """Predict on all levels.

        Args:
            features: per level (N, C_in, Hi, Wi).
            anchors: per level (Hi * Wi, 4) in image pixels, one a cell, row by row.

        Returns:
            Scores and boxes; see :class:`DenseHeadOutput`.
        """
        levels = zip(features, anchors, self.scales, self.strides, strict=True)
        scores, boxes = zip(*(self._forward_level(*level) for level in levels), strict=True)
        return DenseHeadOutput(list(scores), list(boxes))

    def _forward_level(
        self, x: Tensor, anchors: Tensor, scale: Scale, stride: int
    ) -> tuple[Tensor, Tensor]:
        """Scores (N, K, Hi, Wi) and boxes (N, 4, Hi, Wi) of one level."""
        layers = []
        for conv in self.inter_convs:
            x = conv(x)
            layers.append(x)
        cls_features, reg_features, prob_logits, offsets = self._read(torch.cat(layers, dim=1))

        logits, prob_logits = self.tood_cls(cls_features).float(), prob_logits.float()
        # sqrt(sigmoid(a) * sigmoid(b)) in log space: of the bare form, the gradient is infinite
        # where both logits are below -52. Here it is 0.5 * score * (1 - sigmoid) everywhere.
        scores = (0.5 * (F.logsigmoid(logits) + F.logsigmoid(prob_logits))).exp()

        regression = self.tood_reg(reg_features).float()
        boxes = self._decode(regression, anchors, scale, stride)
        return scores, self._align(boxes, offsets.float())

    def _read(self, stack: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What is read off the stack of interactive features (N, num_convs * C, H, W).

        All four begin with a 1x1 convolution, and the stack is the largest tensor of the head: one
        product reads it once for all.

        Returns:
            Features of classification and localisation, each (N, C, H, W); the logits of M
            (N, 1, H, W); the offsets O (N, 8, H, W).
        """
        pooled = F.adaptive_avg_pool2d(stack, 1)
        alignment = (self.cls_prob_module, self.reg_offset_module)
        weights = [self.cls_decomp.weight(pooled), self.reg_decomp.weight(pooled)]
        weights += [module[0].weight.flatten(1).expand(len(stack), -1, -1) for module in alignment]
        product = pointwise_per_image(stack, torch.cat(weights, dim=1))
        cls, reg, *hidden = product.split([weight.shape[1] for weight in weights], dim=1)
        prob_logits, offsets = (
            module[2](F.relu(x + module[0].bias[:, None, None]))
            for module, x in zip(alignment, hidden, strict=True)
        )
        return self.cls_decomp.finish(cls), self.reg_decomp.finish(reg), prob_logits, offsets

    def _decode(self, regression: Tensor, anchors: Tensor, scale: Scale, stride: int) -> Tensor:
        """Boxes (N, 4, H, W) from the regression output (N, 4, H, W)."""
        anchors = anchors.view(1, *regression.shape[-2:], 4) / stride
        regression = regression.permute(0, 2, 3, 1)
        if self.anchor_type == "anchor_free":
            distances = scale(regression.clamp(max=MAX_LOG_DISTANCE).exp())
            boxes = distances_to_boxes(box_centers(anchors), distances)
        else:
            boxes = deltas_to_boxes(anchors, scale(regression))
        return boxes.permute(0, 3, 1, 2)

    @staticmethod
    def _align(boxes: Tensor, offsets: Tensor) -> Tensor:
        """Resample each side of the boxes (N, 4, H, W) by its offset (N, 8, H, W)."""
        aligned = sample_per_channel(boxes.contiguous(), offsets)
        x1, y1, x2, y2 = aligned.split(1, dim=1)
        return torch.where((x1 > x2) | (y1 > y2), boxes, aligned)
