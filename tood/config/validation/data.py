"""Rules of the keys of images, data loading and evaluation: ``INPUT``, ``DATALOADER``, ``TEST``."""

import logging

from detectron2.config import CfgNode

from ...errors import ConfigError
from .augmentation import validate_augmentation
from .rules import Rule, apply_rules, integer, list_of, number, one_of, text

logger = logging.getLogger(__name__)

# tood.data.samplers builds them.
SAMPLERS = (
    "ClassAwareTrainingSampler",
    "RandomSubsetTrainingSampler",
    "RepeatFactorTrainingSampler",
    "TrainingSampler",
)

# Larger values are typos that would hang or run out of memory.
_MAX_SIDE = 100_000
_MAX_WORKERS = 1_024

# Channels of each image format.
FORMAT_CHANNELS = {"BGR": 3, "RGB": 3, "L": 1, "YUV-BT.601": 3}

TRAIN_RULES = (
    Rule("DATASETS.TRAIN", list_of(text(), "names of registered datasets")),
    Rule("INPUT.MIN_SIZE_TRAIN_SAMPLING", one_of(("choice", "range"))),
    Rule(
        "INPUT.MIN_SIZE_TRAIN",
        list_of(integer(0, _MAX_SIDE), f"integers from 0 to {_MAX_SIDE}", min_length=1),
        "An example is (800,); 0 disables resizing.",
    ),
    Rule("INPUT.MAX_SIZE_TRAIN", integer(1, _MAX_SIDE)),
    Rule("INPUT.RANDOM_FLIP", one_of(("horizontal", "vertical", "none"))),
    Rule("DATALOADER.MAX_BAD_IMAGES", integer(0)),
    Rule("DATALOADER.REPEAT_THRESHOLD", number(0)),
    Rule("DATALOADER.RANDOM_SUBSET_RATIO", number(high=1, above=0)),
)

TEST_RULES = (
    Rule("DATASETS.TEST", list_of(text(), "names of registered datasets")),
    Rule("INPUT.FORMAT", one_of(FORMAT_CHANNELS)),
    Rule("INPUT.MIN_SIZE_TEST", integer(0, _MAX_SIDE), "0 disables resizing."),
    Rule("INPUT.MAX_SIZE_TEST", integer(1, _MAX_SIDE)),
    Rule("DATALOADER.NUM_WORKERS", integer(0, _MAX_WORKERS), "0 loads in the main process."),
)

VIEW_RULES = (
    Rule(
        "TEST.AUG.MIN_SIZES",
        list_of(integer(0, _MAX_SIDE), f"integers from 0 to {_MAX_SIDE}", min_length=1),
        "An example is (640, 800, 960); 0 disables resizing.",
    ),
    Rule("TEST.AUG.MAX_SIZE", integer(1, _MAX_SIDE)),
)

_CROP_SIZES = {
    "relative": list_of(number(high=1, above=0), "numbers above 0, at most 1", length=2),
    "relative_range": list_of(number(high=1, above=0), "numbers above 0, at most 1", length=2),
    "absolute": list_of(integer(1), "integers of at least 1", length=2),
    "absolute_range": list_of(integer(1), "integers of at least 1", length=2),
}


def validate_train_data(cfg: CfgNode) -> None:
    """Raise a ConfigError for values with which no training image can be loaded."""
    apply_rules(cfg, TRAIN_RULES)
    apply_rules(cfg, (Rule("DATALOADER.SAMPLER_TRAIN", one_of(SAMPLERS)),))
    if cfg.INPUT.CROP.ENABLED:
        apply_rules(cfg, (Rule("INPUT.CROP.TYPE", one_of(_CROP_SIZES)),))
        kind = _CROP_SIZES[cfg.INPUT.CROP.TYPE]
        apply_rules(cfg, (Rule("INPUT.CROP.SIZE", kind, f"TYPE is {cfg.INPUT.CROP.TYPE}."),))
    sizes = cfg.INPUT.MIN_SIZE_TRAIN
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range" and (len(sizes) != 2 or sizes[0] > sizes[1]):
        raise ConfigError(
            f"INPUT.MIN_SIZE_TRAIN is {tuple(sizes)}, but MIN_SIZE_TRAIN_SAMPLING range needs the "
            "smallest and the largest size. An example is (640, 800)."
        )
    validate_augmentation(cfg)
    _warn_about_sizes("TRAIN", min(sizes), cfg.INPUT.MAX_SIZE_TRAIN)


def validate_test_data(cfg: CfgNode) -> None:
    """Raise a ConfigError for values with which no image can be loaded for detection."""
    apply_rules(cfg, TEST_RULES)
    _warn_about_sizes("TEST", cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)


def _warn_about_sizes(split: str, smallest: int, largest: int) -> None:
    if smallest > largest:
        logger.warning(
            "INPUT.MIN_SIZE_%s is above INPUT.MAX_SIZE_%s, so the longer side of every image "
            "becomes %d pixels.",
            split,
            split,
            largest,
        )


def validate_views(cfg: CfgNode) -> None:
    """Raise a ConfigError for values of ``TEST.AUG`` with which no image can be looked at."""
    apply_rules(cfg, VIEW_RULES)
