"""Backbone of the published models: detectron2's ResNet and FPN with the parts that they lack.

Three small parts: a normalisation with frozen statistics and trainable scale and shift, a top
block that makes P6 and P7 from P5, and the builder that puts them together.
"""

import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import FPN, Backbone, build_resnet_backbone
from torch import Tensor, nn

from ..compat import drop_batch_counter

FROZEN_STATS_BN = "FrozenStatsBN"


class FrozenStatsBatchNorm2d(nn.Module):
    """Batch normalisation by fixed statistics, with trainable scale and shift.

    What the published models train with: MMDetection's ``norm_eval=True``. detectron2's
    ``FrozenBatchNorm2d`` freezes scale and shift too. Its entries in a state_dict are the same.

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
        """Normalise (N, C, H, W)."""
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )

    @classmethod
    def convert(cls, module: nn.Module) -> nn.Module:
        """Replace every BatchNorm2d below ``module``, keeping parameters; returns the result."""
        if isinstance(module, nn.BatchNorm2d):
            norm = cls(module.num_features, module.eps)
            norm.weight, norm.bias = module.weight, module.bias
            norm.running_mean, norm.running_var = module.running_mean, module.running_var
            return norm
        drop_batch_counter(module)
        for name, child in module.named_children():
            setattr(module, name, cls.convert(child))
        return module


class P6P7FromP5(nn.Module):
    """FPN top block: P6 and P7 by 3x3 convolutions of stride 2 from P5, without ReLU between them.

    detectron2's ``LastLevelP6P7`` applies a ReLU before P7.

    Args:
        channels: channels of P5 and of both outputs.
    """

    num_levels = 2
    in_feature = "p5"

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, p5: Tensor) -> list[Tensor]:
        """[P6, P7] of P5 (N, C, H, W)."""
        p6 = self.p6(p5)
        return [p6, self.p7(p6)]


def _build_resnet(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """detectron2's ResNet; ``MODEL.RESNETS.NORM: "FrozenStatsBN"`` is known in addition."""
    if cfg.MODEL.RESNETS.NORM != FROZEN_STATS_BN:
        return build_resnet_backbone(cfg, input_shape)
    # Built with plain batch norm; detectron2 then freezes the first stages completely, and what
    # is still trainable afterwards becomes ours.
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.RESNETS.NORM = "BN"
    return FrozenStatsBatchNorm2d.convert(build_resnet_backbone(cfg, input_shape))


@BACKBONE_REGISTRY.register()
def build_tood_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """ResNet and FPN with P3-P5 from C3-C5, P6 and P7 from P5.

    Args:
        cfg: reads ``MODEL.RESNETS``, ``MODEL.BACKBONE.FREEZE_AT`` and ``MODEL.FPN``, as
            detectron2's own builders do.
        input_shape: of the image.
    """
    channels = cfg.MODEL.FPN.OUT_CHANNELS
    fpn = FPN(
        bottom_up=_build_resnet(cfg, input_shape),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=channels,
        norm=cfg.MODEL.FPN.NORM,
        top_block=P6P7FromP5(channels),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
    for name, module in fpn.named_modules():
        if isinstance(module, nn.Conv2d) and not name.startswith("bottom_up"):
            # MMDetection's; detectron2's differs for the lateral convolutions.
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return fpn
