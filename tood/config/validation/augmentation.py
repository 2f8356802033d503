"""Rules of the keys of augmentation: ``INPUT.LSJ``, ``COLOR_JITTER``, ``MOSAIC`` and ``MIXUP``."""

from detectron2.config import CfgNode

from ...errors import ConfigError
from .rules import Rule, apply_rules, integer, list_of, number

# Larger values are typos that would hang or run out of memory.
_MAX_LSJ_SIDE = 16_384
_MAX_LSJ_SCALE = 10

_LSJ_RULES = (
    Rule(
        "INPUT.LSJ.SIZE",
        list_of(integer(32, _MAX_LSJ_SIDE), f"integers from 32 to {_MAX_LSJ_SIDE}", length=2),
        "It is (height, width).",
    ),
    Rule("INPUT.LSJ.MIN_SCALE", number(above=0, high=_MAX_LSJ_SCALE)),
    Rule("INPUT.LSJ.MAX_SCALE", number(above=0, high=_MAX_LSJ_SCALE)),
)
_COLOR_RULES = tuple(
    Rule(f"INPUT.COLOR_JITTER.{name}", number(0, 1), "0 leaves it out.")
    for name in ("BRIGHTNESS", "CONTRAST", "SATURATION")
)
_OFF_RULE = Rule("INPUT.MULTI_IMAGE_OFF_EPOCHS", number(0), "0 uses mosaic and mix-up to the end.")
_MOSAIC_RULES = (
    Rule("INPUT.MOSAIC.PROB", number(0, 1)),
    Rule(
        "INPUT.MOSAIC.SCALE",
        list_of(number(above=0, high=2), "numbers above 0, at most 2", length=2),
    ),
    Rule("INPUT.MOSAIC.CENTER", list_of(number(0, 1), "numbers from 0 to 1", length=2)),
    Rule("INPUT.MOSAIC.MIN_VISIBLE", number(0, 1)),
)
_MIXUP_RULES = (
    Rule("INPUT.MIXUP.PROB", number(0, 1)),
    Rule("INPUT.MIXUP.ALPHA", number(above=0, high=1000)),
)

# Of several images, only boxes are put together.
_MULTI_IMAGE = ("MOSAIC", "MIXUP")


def validate_augmentation(cfg: CfgNode) -> None:
    """Raise a ConfigError for values with which no training image can be augmented.

    The keys of what is off are not checked: they are not read.
    """
    node = cfg.INPUT
    if node.LSJ.ENABLED:
        apply_rules(cfg, _LSJ_RULES)
        _validate_range("INPUT.LSJ.MIN_SCALE", node.LSJ.MIN_SCALE, node.LSJ.MAX_SCALE, "MAX_SCALE")
    if node.COLOR_JITTER.ENABLED:
        apply_rules(cfg, _COLOR_RULES)
    if node.MOSAIC.ENABLED:
        apply_rules(cfg, _MOSAIC_RULES)
        for key in ("SCALE", "CENTER"):
            low, high = node.MOSAIC[key]
            _validate_range(f"INPUT.MOSAIC.{key}", low, high, "the second number")
    if node.MIXUP.ENABLED:
        apply_rules(cfg, _MIXUP_RULES)
    several = [f"INPUT.{name}.ENABLED" for name in _MULTI_IMAGE if node[name].ENABLED]
    if several:
        apply_rules(cfg, (_OFF_RULE,))
    if several and cfg.MODEL.MASK_ON:
        raise ConfigError(
            f"{several[0]} is True, but MODEL.MASK_ON is too, and masks of several images are not "
            "put together. Set one of them to False."
        )
    on = [f"INPUT.{name}.ENABLED" for name in ("LSJ", "COLOR_JITTER") if node[name].ENABLED]
    if (on or several) and node.FORMAT == "YUV-BT.601":
        raise ConfigError(
            f"{[*on, *several][0]} is True, but INPUT.FORMAT is YUV-BT.601, whose values are not "
            "from 0 to 255. Use RGB, BGR or L."
        )


def _validate_range(key: str, low: float, high: float, name: str) -> None:
    if low > high:
        raise ConfigError(f"{key} is {low}, but {name} is {high}. Use a larger one, or swap them.")
