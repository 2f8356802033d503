"""Backbone of the published models: detectron2's ResNet and FPN, plus what they lack.

Five small parts: a normalization with frozen statistics and trainable scale and shift; a residual
block with deformable convolution that needs no compiled extension; a top block that produces P6 and
P7; an FPN in the memory layout that is fast on a CPU; and the builder that assembles them.
"""

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import CNNBlockBase, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import FPN, Backbone, build_resnet_backbone
from detectron2.modeling.backbone.resnet import BottleneckBlock
from torch import Tensor, nn

from ..compat import remove_num_batches_tracked
from ..config.validation.norms import FROZEN_STATS_BN
from ..errors import ConfigError
from .layers import DeformConv, predict_offsets


class FrozenStatsBatchNorm2d(nn.Module):
    """Batch normalization with fixed statistics and trainable scale and shift.

    The published models train with it (MMDetection's ``norm_eval=True``). detectron2's
    ``FrozenBatchNorm2d`` freezes scale and shift too; its state_dict has the same keys.

    Args:
        num_features: channels.
        eps: added to the variance.
    """

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        norm = nn.BatchNorm2d(num_features, eps)
        self.eps = eps
        self.weight, self.bias = norm.weight, norm.bias
        self.register_buffer("running_mean", norm.running_mean)
        self.register_buffer("running_var", norm.running_var)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (N, C, H, W)."""
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )

    @classmethod
    def convert(cls, module: nn.Module) -> nn.Module:
        """Replace every BatchNorm2d in ``module``, keep its parameters, and return the result."""
        if isinstance(module, nn.BatchNorm2d):
            norm = cls(module.num_features, module.eps)
            norm.weight, norm.bias = module.weight, module.bias
            norm.running_mean, norm.running_var = module.running_mean, module.running_var
            return norm
        remove_num_batches_tracked(module)
        for name, child in module.named_children():
            setattr(module, name, cls.convert(child))
        return module


class DeformBottleneckBlock(CNNBlockBase):
    """A bottleneck block whose 3x3 convolution is deformable.

    detectron2's block of the same name needs its compiled extension and a GPU; this one has the
    same parameters under the same names. Offsets and mask logits start at 0.

    Args:
        block: the plain block, whose parameters are reused.
        modulated: DCNv2, with masks; else DCNv1.
        deform_groups: number of channel groups with their own offsets.

    Raises:
        ConfigError: the block's channels do not divide into the groups.
    """

    def __init__(self, block: BottleneckBlock, modulated: bool, deform_groups: int) -> None:
        super().__init__(block.in_channels, block.out_channels, block.stride)
        plain = block.conv2
        if plain.in_channels % deform_groups:
            raise ConfigError(
                f"MODEL.RESNETS.DEFORM_NUM_GROUPS is {deform_groups}, which does not divide the "
                f"{plain.in_channels} channels of a deformable layer. Use a divisor, such as 1."
            )
        (stride, _), (padding, _), (dilation, _) = plain.stride, plain.padding, plain.dilation
        self.modulated = modulated
        self.shortcut = block.shortcut
        self.conv1 = block.conv1
        self.conv2_offset = nn.Conv2d(
            plain.in_channels,
            (3 if modulated else 2) * 9 * deform_groups,
            3,
            stride=stride,
            padding=padding,
            dilation=dilation,
        )
        self.conv2 = DeformConv(
            plain.in_channels,
            plain.out_channels,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=plain.groups,
            norm=plain.norm,
        )
        self.conv2.weight = plain.weight
        self.conv3 = block.conv3
        nn.init.zeros_(self.conv2_offset.weight)
        nn.init.zeros_(self.conv2_offset.bias)
        if not plain.weight.requires_grad:  # a frozen stage
            self.freeze()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H / stride, W / stride)."""
        out = F.relu(self.conv1(x))
        out = self.conv2(out, *predict_offsets(self.conv2_offset, out, self.modulated))
        out = self.conv3(F.relu(out))
        return F.relu(out + (x if self.shortcut is None else self.shortcut(x)))


class P6P7TopBlock(nn.Module):
    """FPN top block: P6 and P7 by 3x3 convolutions of stride 2.

    detectron2's ``LastLevelP6P7`` always has a ReLU before P7.

    Args:
        in_channels: channels of the map that P6 is computed from.
        channels: of both outputs.
        in_feature: name of that map.
        relu: apply a ReLU between P6 and P7.
    """

    num_levels = 2

    def __init__(
        self, in_channels: int, channels: int, in_feature: str = "p5", relu: bool = False
    ) -> None:
        super().__init__()
        self.in_feature, self.relu = in_feature, relu
        self.p6 = nn.Conv2d(in_channels, channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Compute [P6, P7] from a map (N, C, H, W)."""
        p6 = self.p6(x)
        return [p6, self.p7(F.relu(p6) if self.relu else p6)]


class ChannelsLastFPN(FPN):
    """detectron2's FPN, computed in the channels-last memory format on a CPU.

    PyTorch's convolutions are up to twice as fast with it; the outputs have the usual format.
    """

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute maps (N, C, Hi, Wi) by name from images (N, 3, H, W)."""
        if x.device.type != "cpu":
            return super().forward(x)
        maps = super().forward(x.contiguous(memory_format=torch.channels_last))
        return {name: level.contiguous() for name, level in maps.items()}


def _build_resnet(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """Build detectron2's ResNet; also accepts ``MODEL.RESNETS.NORM: "FrozenStatsBN"``."""
    resnets = cfg.MODEL.RESNETS
    deformable = [
        f"res{stage}" for stage, chosen in enumerate(resnets.DEFORM_ON_PER_STAGE, 2) if chosen
    ]
    if deformable and resnets.DEPTH < 50:
        raise ConfigError(
            "MODEL.RESNETS.DEFORM_ON_PER_STAGE needs bottleneck blocks, which a "
            f"ResNet-{resnets.DEPTH} does not have. Set it to [False, False, False, False], or use "
            "MODEL.RESNETS.DEPTH 50 or more."
        )
    # detectron2 builds plain blocks and norms; ours then replace them.
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE = [False] * 4
    if resnets.NORM == FROZEN_STATS_BN:
        cfg.MODEL.RESNETS.NORM = "BN"
    resnet = build_resnet_backbone(cfg, input_shape)
    for stage in filter(None, (getattr(resnet, name, None) for name in deformable)):
        for i, block in enumerate(stage):
            stage[i] = DeformBottleneckBlock(
                block, resnets.DEFORM_MODULATED, resnets.DEFORM_NUM_GROUPS
            )
    if resnets.NORM == FROZEN_STATS_BN:
        # detectron2 froze the first stages; convert the remaining BatchNorm layers.
        resnet = FrozenStatsBatchNorm2d.convert(resnet)
    return resnet


@BACKBONE_REGISTRY.register()
def build_tood_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """Build ResNet and FPN: P3 to P5 from C3 to C5, P6 and P7 from P5 or C5.

    Args:
        cfg: reads ``MODEL.RESNETS``, ``MODEL.BACKBONE.FREEZE_AT`` and ``MODEL.FPN``, as
            detectron2's own builders do, and ``MODEL.TOOD.FPN``.
        input_shape: of the image.

    Raises:
        ConfigError: ``P6_SOURCE`` is neither P5 nor C5, or the FPN does not read C5.
    """
    return build_fpn(cfg, _build_resnet(cfg, input_shape))


def build_fpn(cfg: CfgNode, bottom_up: Backbone) -> ChannelsLastFPN:
    """Build the FPN of the published models: P3 to P5 from C3 to C5, P6 and P7 from P5 or C5.

    Args:
        cfg: reads ``MODEL.FPN`` and ``MODEL.TOOD.FPN``.
        bottom_up: has maps called "res3", "res4" and "res5".

    Raises:
        ConfigError: ``P6_SOURCE`` is neither P5 nor C5, or the FPN does not read C5.
    """
    channels = cfg.MODEL.FPN.OUT_CHANNELS
    if "res5" not in cfg.MODEL.FPN.IN_FEATURES:
        raise ConfigError(
            f"MODEL.FPN.IN_FEATURES is {list(cfg.MODEL.FPN.IN_FEATURES)}, but P6 and P7 need res5. "
            "Add it."
        )
    sources = {"p5": channels, "res5": bottom_up.output_shape()["res5"].channels}
    source = cfg.MODEL.TOOD.FPN.P6_SOURCE
    if source not in sources:
        raise ConfigError(
            f"Unknown MODEL.TOOD.FPN.P6_SOURCE {source!r}. Available: {', '.join(sources)}"
        )
    fpn = ChannelsLastFPN(
        bottom_up=bottom_up,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=channels,
        norm=cfg.MODEL.FPN.NORM,
        top_block=P6P7TopBlock(
            sources[source], channels, source, cfg.MODEL.TOOD.FPN.RELU_BEFORE_P7
        ),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
    for name, module in fpn.named_modules():
        if isinstance(module, nn.Conv2d) and not name.startswith("bottom_up"):
            # MMDetection's initialization; detectron2's differs for the lateral convolutions.
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return fpn
