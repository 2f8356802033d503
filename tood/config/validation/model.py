"""Rules of the keys that models are built from: ``MODEL``."""

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from detectron2.modeling import (
    BACKBONE_REGISTRY,
    META_ARCH_REGISTRY,
    PROPOSAL_GENERATOR_REGISTRY,
    ROI_HEADS_REGISTRY,
)

from ...errors import ConfigError
from ..architecture import (
    TOOD_META_ARCH,
    TOOD_PROPOSAL_NETWORK,
    has_tood,
    is_two_stage,
)
from ..merging import get_value, shown
from . import norms
from .data import FORMAT_CHANNELS
from .rules import (
    Kind,
    Rule,
    apply_rules,
    integer,
    list_of,
    number,
    one_of,
    text,
    unknown_choice,
    validate_registered,
)
from .tood_node import HEAD_RULES, MAX_CHANNELS, TOOD_RULES
from .two_stage import (
    TOOD_ROI_HEADS,
    builds_roi_heads,
    validate_proposal_scores,
    validate_two_stage,
)

# Registered by tood.modeling, which is above this layer.
_TOOD_BACKBONE = "build_tood_resnet_fpn_backbone"
_TIMM_BACKBONE = "build_timm_fpn_backbone"
# What detectron2 calls having no proposal generator.
_PRECOMPUTED = "PrecomputedProposals"
_RESNET_FPN_BACKBONES = (
    _TOOD_BACKBONE,
    "build_resnet_fpn_backbone",
    "build_retinanet_resnet_fpn_backbone",
)
_FPN_BACKBONES = (*_RESNET_FPN_BACKBONES, _TIMM_BACKBONE)
_RESNET_BACKBONES = (*_RESNET_FPN_BACKBONES, "build_resnet_backbone")
_OWN_HEADS = ("TOODHead", "ParallelHead")

_DEPTHS = (18, 34, 50, 101, 152)
# Of basic blocks, for which detectron2 fixes the other keys.
_BASIC_DEPTHS = (18, 34)
_BASIC_VALUES = {"RES2_OUT_CHANNELS": 64, "RES5_DILATION": 1, "NUM_GROUPS": 1}
_STAGES = ("stem", "res2", "res3", "res4", "res5")
_RES5_STRIDE = 32

_PIXEL_RULES = (
    Rule("MODEL.PIXEL_MEAN", list_of(number(), "numbers", min_length=1)),
    Rule("MODEL.PIXEL_STD", list_of(number(above=0), "numbers above 0", min_length=1)),
)
_RESNET_RULES = (
    Rule("MODEL.BACKBONE.FREEZE_AT", integer()),
    Rule("MODEL.RESNETS.RES5_DILATION", integer(1, 2)),
    Rule("MODEL.RESNETS.NUM_GROUPS", integer(1, MAX_CHANNELS)),
    Rule("MODEL.RESNETS.WIDTH_PER_GROUP", integer(1, MAX_CHANNELS)),
    Rule("MODEL.RESNETS.STEM_OUT_CHANNELS", integer(1, MAX_CHANNELS)),
    Rule("MODEL.RESNETS.RES2_OUT_CHANNELS", integer(1, MAX_CHANNELS)),
    Rule("MODEL.RESNETS.DEFORM_NUM_GROUPS", integer(1)),
    Rule(
        "MODEL.RESNETS.DEFORM_ON_PER_STAGE",
        list_of(
            Kind(lambda value: value in (True, False), "True or False"), "True or False", length=4
        ),
    ),
    Rule(
        "MODEL.RESNETS.OUT_FEATURES",
        list_of(one_of(_STAGES), f"names among {', '.join(_STAGES)}", min_length=1),
    ),
)
_TIMM_RULES = (
    Rule("MODEL.BACKBONE.FREEZE_AT", integer()),
    Rule("MODEL.TIMM.NAME", text(), "Such as convnext_tiny."),
    Rule("MODEL.TIMM.NORM", one_of(("BN", norms.FROZEN_STATS_BN, norms.FROZEN_BN, "SyncBN"))),
    Rule("MODEL.TIMM.DROP_PATH", number(0, below=1)),
)
# detectron2's meta-architectures whose detections are those of MODEL.ROI_HEADS.
_WITH_ROI_HEADS = ("GeneralizedRCNN", "PanopticFPN")
# detectron2's one-stage detectors, which take a negative number as an index from the end.
_NO_NEGATIVE_MAXIMUM = ("RetinaNet", "FCOS")

_FPN_RULES = (
    Rule("MODEL.FPN.OUT_CHANNELS", integer(1, MAX_CHANNELS)),
    Rule("MODEL.FPN.FUSE_TYPE", one_of(("sum", "avg"))),
    Rule("MODEL.FPN.IN_FEATURES", list_of(text(), "names of feature maps", min_length=1)),
)


def validate_parts(cfg: CfgNode) -> None:
    """Raise a ConfigError for values with which no model of any kind can be built.

    Args:
        cfg: the config, after its ``CUSTOM_IMPORTS``.
    """
    validate_registered(cfg, "MODEL.META_ARCHITECTURE", META_ARCH_REGISTRY, {TOOD_META_ARCH})
    own = {_TOOD_BACKBONE, _TIMM_BACKBONE}
    validate_registered(cfg, "MODEL.BACKBONE.NAME", BACKBONE_REGISTRY, own)
    own = {TOOD_PROPOSAL_NETWORK, _PRECOMPUTED}
    validate_registered(cfg, "MODEL.PROPOSAL_GENERATOR.NAME", PROPOSAL_GENERATOR_REGISTRY, own)
    validate_registered(cfg, "MODEL.ROI_HEADS.NAME", ROI_HEADS_REGISTRY, set(TOOD_ROI_HEADS))
    if cfg.MODEL.META_ARCHITECTURE in _WITH_ROI_HEADS or builds_roi_heads(cfg):
        validate_proposal_scores(cfg)
    _validate_device(cfg.MODEL.DEVICE)
    _validate_max_detections(cfg)
    _validate_pixels(cfg)
    backbone = cfg.MODEL.BACKBONE.NAME
    if backbone in _RESNET_BACKBONES:
        _validate_resnet(cfg)
    if backbone == _TIMM_BACKBONE:
        apply_rules(cfg, _TIMM_RULES)
    if backbone in _FPN_BACKBONES:
        _validate_fpn(cfg)


def validate_model(cfg: CfgNode) -> None:
    """Raise a ConfigError for values with which TOOD cannot be built.

    Args:
        cfg: the config, after its ``CUSTOM_IMPORTS``.
    """
    validate_parts(cfg)
    apply_rules(cfg, TOOD_RULES)
    node = cfg.MODEL.TOOD
    if node.HEAD.NAME in _OWN_HEADS:
        apply_rules(cfg, HEAD_RULES)
        channels = {"MODEL.TOOD.HEAD.CHANNELS": node.HEAD.CHANNELS}
        norms.validate_norm("MODEL.TOOD.HEAD.NORM", node.HEAD.NORM, channels)
    if cfg.MODEL.ANCHOR_GENERATOR.NAME == "DefaultAnchorGenerator":
        apply_rules(cfg, (Rule("MODEL.ANCHOR_GENERATOR.OFFSET", number(0, below=1)),))
        for name in ("SIZES", "ASPECT_RATIOS"):
            _validate_per_level(cfg, f"MODEL.ANCHOR_GENERATOR.{name}", node.IN_FEATURES)
    if is_two_stage(cfg):
        validate_two_stage(cfg)


def validate_batch_norm(cfg: CfgNode, world_size: int) -> None:
    """Raise a ConfigError for a batch normalization that would get one value per channel.

    Args:
        cfg: the config, otherwise valid.
        world_size: number of processes.
    """
    found: dict[str, tuple[str, int]] = {}
    model = cfg.MODEL
    all_frozen = len(_STAGES) <= model.BACKBONE.FREEZE_AT
    if model.BACKBONE.NAME in _RESNET_BACKBONES and not all_frozen:
        stride = _RES5_STRIDE // model.RESNETS.RES5_DILATION
        found["MODEL.RESNETS.NORM"] = (model.RESNETS.NORM, stride)
    if model.BACKBONE.NAME == _TIMM_BACKBONE and not all_frozen:
        found["MODEL.TIMM.NORM"] = (model.TIMM.NORM, _RES5_STRIDE)
    if model.BACKBONE.NAME in _FPN_BACKBONES:
        found["MODEL.FPN.NORM"] = (model.FPN.NORM, _RES5_STRIDE)
    if has_tood(cfg) and model.TOOD.HEAD.NAME in _OWN_HEADS:
        # The levels are called after the logarithm of their stride.
        levels = [name[1:] for name in model.TOOD.IN_FEATURES if name[1:].isdigit()]
        stride = 2 ** max(map(int, levels), default=0)
        found["MODEL.TOOD.HEAD.NORM"] = (model.TOOD.HEAD.NORM, stride)
    norms.validate_batch_norm(cfg, found, world_size)


def _validate_device(name: str) -> None:
    if name == "auto":  # which load_config replaces
        return
    try:
        torch.device(name)
    except RuntimeError:
        raise unknown_choice("MODEL.DEVICE", name, ("cpu", "cuda", "cuda:N", "auto")) from None


def _validate_max_detections(cfg: CfgNode) -> None:
    key = "TEST.DETECTIONS_PER_IMAGE"
    apply_rules(cfg, (Rule(key, integer()),))
    maximum = cfg.TEST.DETECTIONS_PER_IMAGE
    if maximum == 0:
        raise ConfigError(
            f"{key} is 0, so nothing would be detected. Use at least 1, or -1 for all detections."
        )
    if maximum < 0 and cfg.MODEL.META_ARCHITECTURE in _NO_NEGATIVE_MAXIMUM:
        raise ConfigError(
            f"{key} is {maximum}, which {cfg.MODEL.META_ARCHITECTURE} does not support. Use a "
            "large number for all detections."
        )


def _validate_pixels(cfg: CfgNode) -> None:
    apply_rules(cfg, _PIXEL_RULES)
    mean, std = cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD
    if len(mean) != len(std):
        raise ConfigError(
            f"MODEL.PIXEL_MEAN has {len(mean)} values, but MODEL.PIXEL_STD {len(std)}. Give one of "
            "each per channel."
        )
    # A gray image fits any number of channels; other numbers are for loaders of the user's own.
    channels = FORMAT_CHANNELS.get(cfg.INPUT.FORMAT, 1)
    if len(mean) == 1 and channels > 1:
        raise ConfigError(
            f"MODEL.PIXEL_MEAN and PIXEL_STD have one value each, but INPUT.FORMAT "
            f"{cfg.INPUT.FORMAT} has {channels} channels. Give {channels} values, or set "
            "INPUT.FORMAT L for gray images."
        )


def _validate_resnet(cfg: CfgNode) -> None:
    resnets = cfg.MODEL.RESNETS
    if resnets.DEPTH not in _DEPTHS:
        raise unknown_choice("MODEL.RESNETS.DEPTH", resnets.DEPTH, map(str, _DEPTHS))
    apply_rules(cfg, _RESNET_RULES)
    if resnets.DEPTH in _BASIC_DEPTHS:
        for name, value in _BASIC_VALUES.items():
            if resnets[name] != value:
                raise ConfigError(
                    f"MODEL.RESNETS.{name} is {resnets[name]}, but a ResNet-{resnets.DEPTH} needs "
                    f"{value}. Set it to {value}, or use MODEL.RESNETS.DEPTH 50 or more."
                )
    names = ["STEM_OUT_CHANNELS", "RES2_OUT_CHANNELS"]
    channels = {f"MODEL.RESNETS.{name}": resnets[name] for name in names}
    width = resnets.NUM_GROUPS * resnets.WIDTH_PER_GROUP
    if resnets.DEPTH not in _BASIC_DEPTHS:
        channels["MODEL.RESNETS.NUM_GROUPS * WIDTH_PER_GROUP"] = width
    extra = (norms.FROZEN_STATS_BN,) if cfg.MODEL.BACKBONE.NAME == _TOOD_BACKBONE else ()
    norms.validate_norm("MODEL.RESNETS.NORM", resnets.NORM, channels, extra)


def _validate_fpn(cfg: CfgNode) -> None:
    apply_rules(cfg, _FPN_RULES)
    fpn, available = cfg.MODEL.FPN, cfg.MODEL.RESNETS.OUT_FEATURES
    missing = [name for name in fpn.IN_FEATURES if name not in available]
    if missing and cfg.MODEL.BACKBONE.NAME != _TIMM_BACKBONE:  # which knows its maps when built
        raise ConfigError(
            f"MODEL.FPN.IN_FEATURES has {missing[0]}, which MODEL.RESNETS.OUT_FEATURES lacks. "
            f"Available: {', '.join(available)}. Add it there."
        )
    channels = {"MODEL.FPN.OUT_CHANNELS": fpn.OUT_CHANNELS}
    norms.validate_norm("MODEL.FPN.NORM", fpn.NORM, channels)


def _validate_per_level(cfg: CfgNode, key: str, levels: Sequence[str]) -> None:
    """Check a list of numbers, or of one list of numbers for all levels or for each of them."""
    values = get_value(cfg, key)
    numbers = list_of(number(above=0), "numbers above 0", min_length=1)
    if numbers.accepts(values):
        return
    apply_rules(cfg, (Rule(key, list_of(numbers, "lists of numbers above 0", min_length=1)),))
    if len(values) not in (1, len(levels)):
        raise ConfigError(
            f"{key} is {shown(values)}, which has {len(values)} lists, but MODEL.TOOD.IN_FEATURES "
            f"has {len(levels)} levels ({', '.join(levels)}). Give one list for each."
        )
