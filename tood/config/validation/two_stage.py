"""Rules of the keys of two-stage detectors whose first stage is TOOD."""

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, ROI_HEADS_REGISTRY, GeneralizedRCNN
from detectron2.modeling.roi_heads import (
    ROI_BOX_HEAD_REGISTRY,
    ROI_KEYPOINT_HEAD_REGISTRY,
    ROI_MASK_HEAD_REGISTRY,
)

from ...errors import ConfigError
from ..architecture import has_roi_heads
from ..merging import shown
from .rules import Rule, apply_rules, integer, list_of, number, text, validate_registered

# Registered by tood.modeling, which is above this layer.
TOOD_ROI_HEADS = ("TOODStandardROIHeads", "TOODCascadeROIHeads")
_CASCADES = ("CascadeROIHeads", "TOODCascadeROIHeads")
# Heads whose keys are known. Others may read them differently, or not at all.
KNOWN_ROI_HEADS = ("StandardROIHeads", "TOODStandardROIHeads", *_CASCADES)
_MAX_PROPOSALS = 1_000_000
_PREFIX = "MODEL.TOOD.PROPOSALS."
_RULES = (
    *(
        Rule(f"{_PREFIX}{key}_TOPK_{mode}", integer(1, _MAX_PROPOSALS))
        for key in ("PRE_NMS", "POST_NMS")
        for mode in ("TRAIN", "TEST")
    ),
    *(
        Rule(f"{_PREFIX}NMS_THRESH_{mode}", number(0, 1), "1 disables NMS.")
        for mode in ("TRAIN", "TEST")
    ),
    Rule(f"{_PREFIX}SIZE_DIVISOR", integer(1)),
)
_ROI_RULES = (
    Rule("MODEL.ROI_HEADS.IN_FEATURES", list_of(text(), "names of feature maps", min_length=1)),
    Rule("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", integer(1)),
    Rule("MODEL.ROI_HEADS.POSITIVE_FRACTION", number(high=1, above=0)),
    Rule("MODEL.ROI_HEADS.SCORE_THRESH_TEST", number(below=1), "At 1 nothing would be detected."),
    Rule("MODEL.ROI_HEADS.NMS_THRESH_TEST", number(0, 1), "1 disables NMS."),
)


def validate_two_stage(cfg: CfgNode) -> None:
    """Raise a ConfigError for values with which the stages do not work together.

    Args:
        cfg: the config of a model whose proposal generator is TOOD.
    """
    apply_rules(cfg, _RULES)
    if cfg.MODEL.PROPOSAL_GENERATOR.MIN_SIZE:
        raise ConfigError(
            f"MODEL.PROPOSAL_GENERATOR.MIN_SIZE is {cfg.MODEL.PROPOSAL_GENERATOR.MIN_SIZE}, but "
            "TOODProposalNetwork does not remove small proposals. Set it to 0."
        )
    if not builds_roi_heads(cfg):
        return
    model = cfg.MODEL
    num_classes = (model.TOOD.NUM_CLASSES, model.ROI_HEADS.NUM_CLASSES)
    if num_classes[0] != num_classes[1]:
        raise ConfigError(
            f"MODEL.TOOD.NUM_CLASSES is {num_classes[0]}, but MODEL.ROI_HEADS.NUM_CLASSES is "
            f"{num_classes[1]}. Set both to the number of classes of the dataset; "
            f"{_PREFIX}CLASS_AGNOSTIC decides whether the first stage tells them apart."
        )
    _validate_kind(cfg)
    if model.ROI_HEADS.NAME in KNOWN_ROI_HEADS:
        _validate_heads(cfg)
    if model.ROI_HEADS.NAME in _CASCADES:
        _validate_cascade(cfg)


def builds_roi_heads(cfg: CfgNode) -> bool:
    """Whether TOOD's proposals go to the heads in ``MODEL.ROI_HEADS``.

    A user's own meta-architecture may have others, or none; it has these where it is a subclass of
    detectron2's.
    """
    if not has_roi_heads(cfg):
        return False
    kind = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    return isinstance(kind, type) and issubclass(kind, GeneralizedRCNN)


def validate_proposal_scores(cfg: CfgNode) -> None:
    """Raise a ConfigError if scores are to be multiplied, but detectron2's own heads do not."""
    name = cfg.MODEL.ROI_HEADS.NAME
    if not cfg.MODEL.ROI_BOX_HEAD.MULT_PROPOSAL_SCORE or name in TOOD_ROI_HEADS:
        return
    # Heads of a user may read the key, or be subclasses of those that do.
    if ROI_HEADS_REGISTRY.get(name).__module__.startswith("detectron2."):
        raise ConfigError(
            f"MODEL.ROI_BOX_HEAD.MULT_PROPOSAL_SCORE is True, but MODEL.ROI_HEADS.NAME {name} does "
            f"not read it. Use {' or '.join(TOOD_ROI_HEADS)}."
        )


def _validate_kind(cfg: CfgNode) -> None:
    """Refuse those of detectron2's heads that fail on the proposals or the maps."""
    name, need = cfg.MODEL.ROI_HEADS.NAME, ""
    if name == "RROIHeads":
        need = "rotated proposals"
    elif name == "Res5ROIHeads" and "res4" not in cfg.MODEL.TOOD.IN_FEATURES:
        need = "the map res4 of a backbone without an FPN"
    if need:
        raise ConfigError(
            f"MODEL.ROI_HEADS.NAME is {name}, which needs {need}. Use "
            f"{' or '.join(TOOD_ROI_HEADS)}."
        )


def _validate_heads(cfg: CfgNode) -> None:
    model = cfg.MODEL
    apply_rules(cfg, _ROI_RULES)
    validate_registered(cfg, "MODEL.ROI_BOX_HEAD.NAME", ROI_BOX_HEAD_REGISTRY)
    if model.MASK_ON:
        validate_registered(cfg, "MODEL.ROI_MASK_HEAD.NAME", ROI_MASK_HEAD_REGISTRY)
    if model.KEYPOINT_ON:
        validate_registered(cfg, "MODEL.ROI_KEYPOINT_HEAD.NAME", ROI_KEYPOINT_HEAD_REGISTRY)
    box = model.ROI_BOX_HEAD
    if box.NAME == "FastRCNNConvFCHead" and box.NUM_CONV + box.NUM_FC == 0:
        raise ConfigError(
            "MODEL.ROI_BOX_HEAD.NUM_CONV and NUM_FC are 0, so the box head has no layers. "
            "detectron2's configs with an FPN set NUM_FC 2."
        )


def _validate_cascade(cfg: CfgNode) -> None:
    """Check what detectron2's heads only assert."""
    model = cfg.MODEL
    name, cascade = model.ROI_HEADS.NAME, model.ROI_BOX_CASCADE_HEAD
    if not model.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG:
        raise ConfigError(
            f"MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG is False, but {name} predicts one box for "
            "all classes. Set it to True."
        )
    if len(cascade.IOUS) != len(cascade.BBOX_REG_WEIGHTS) or not cascade.IOUS:
        raise ConfigError(
            f"MODEL.ROI_BOX_CASCADE_HEAD.IOUS has {len(cascade.IOUS)} values, but BBOX_REG_WEIGHTS "
            f"{len(cascade.BBOX_REG_WEIGHTS)}. Give one of each per stage."
        )
    if list(model.ROI_HEADS.IOU_THRESHOLDS)[:1] != [cascade.IOUS[0]]:
        raise ConfigError(
            f"MODEL.ROI_HEADS.IOU_THRESHOLDS is {shown(model.ROI_HEADS.IOU_THRESHOLDS)}, but the "
            f"first stage has the IoU {cascade.IOUS[0]} in MODEL.ROI_BOX_CASCADE_HEAD.IOUS. Set "
            "both to the same."
        )
