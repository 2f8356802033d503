"""Rules of the keys of two-stage detectors whose first stage is TOOD."""

from detectron2.config import CfgNode

from ...errors import ConfigError
from ..architecture import has_roi_heads
from .rules import Rule, apply_rules, integer, number

# Registered by tood.modeling, which is above this layer.
TOOD_ROI_HEADS = ("TOODStandardROIHeads", "TOODCascadeROIHeads")

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


def validate_two_stage(cfg: CfgNode) -> None:
    """Raise a ConfigError for values with which the stages do not work together.

    Args:
        cfg: the config of a model whose proposal generator is TOOD.
    """
    apply_rules(cfg, _RULES)
    if not has_roi_heads(cfg):
        return
    model = cfg.MODEL
    num_classes = (model.TOOD.NUM_CLASSES, model.ROI_HEADS.NUM_CLASSES)
    if num_classes[0] != num_classes[1]:
        raise ConfigError(
            f"MODEL.TOOD.NUM_CLASSES is {num_classes[0]}, but MODEL.ROI_HEADS.NUM_CLASSES is "
            f"{num_classes[1]}. Set both to the number of classes of the dataset; "
            f"{_PREFIX}CLASS_AGNOSTIC decides whether the first stage tells them apart."
        )
    if model.ROI_BOX_HEAD.MULT_PROPOSAL_SCORE and model.ROI_HEADS.NAME not in TOOD_ROI_HEADS:
        raise ConfigError(
            "MODEL.ROI_BOX_HEAD.MULT_PROPOSAL_SCORE is True, but MODEL.ROI_HEADS.NAME "
            f"{model.ROI_HEADS.NAME} does not read it. Use {' or '.join(TOOD_ROI_HEADS)}."
        )
