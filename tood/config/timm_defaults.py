"""The config keys of timm's networks as backbones."""

from detectron2.config import CfgNode


def add_timm_config(cfg: CfgNode) -> None:
    """Add the keys that ``build_timm_fpn_backbone`` reads.

    Args:
        cfg: changed in place.
    """
    _add_timm_keys(cfg)


def _add_timm_keys(cfg: CfgNode) -> None:
    # ---- timm backbones ----
    # Read by build_timm_fpn_backbone; MODEL.FPN and MODEL.TOOD.FPN apply too. The maps are called
    # after their stride, as in detectron2's ResNets: "res3" has stride 8, "res4" 16, "res5" 32.
    # MODEL.BACKBONE.FREEZE_AT n freezes everything up to the map of stride 2^n; 1 the stem; 0
    # nothing.
    cfg.MODEL.TIMM = CfgNode()
    # Name of the network, such as "convnext_tiny" or with the tag of its weights
    # "convnext_tiny.fb_in1k". It needs maps of stride 8, 16 and 32.
    cfg.MODEL.TIMM.NAME = ""
    # What its batch normalizations do in training: "BN" learns everything, "SyncBN" over all GPUs;
    # "FrozenStatsBN" keeps the statistics, as the published models do; "FrozenBN" also keeps scale
    # and shift. Networks with layer normalization, such as ConvNeXt and Swin, are not changed.
    cfg.MODEL.TIMM.NORM = "BN"
    # Probability to skip a block of the last stage in training (stochastic depth); it rises
    # linearly from 0 in the first block.
    cfg.MODEL.TIMM.DROP_PATH = 0.0
    # Refuse timm's weights in MODEL.WEIGHTS where MODEL.PIXEL_MEAN, PIXEL_STD or INPUT.FORMAT
    # differ from what timm names for them. False for weights with a normalization of their own.
    cfg.MODEL.TIMM.CHECK_PIXELS = True
