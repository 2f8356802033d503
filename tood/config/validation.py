"""Checks of config values before training and evaluation."""

import logging

from detectron2.config import CfgNode
from detectron2.utils import comm

from ..errors import ConfigError

logger = logging.getLogger(__name__)


def validate_test(cfg: CfgNode) -> None:
    """Raise a ConfigError for test settings that cannot work here."""
    if cfg.TEST.AUG.ENABLED:
        raise ConfigError(
            "TEST.AUG.ENABLED is True, and detectron2's test-time augmentation knows two-stage "
            "detectors only: set it to False"
        )


def validate_solver(cfg: CfgNode) -> None:
    """Raise a ConfigError for settings that detectron2 would stop at later, in its own words."""
    validate_test(cfg)
    if cfg.SOLVER.AMP.ENABLED and cfg.MODEL.DEVICE == "cpu":
        raise ConfigError("SOLVER.AMP.ENABLED is True, and there is no GPU: set it to False")
    batch, reference = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.REFERENCE_WORLD_SIZE
    if reference and batch % reference:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH is {batch}, and the config is written for {reference} GPUs "
            "(SOLVER.REFERENCE_WORLD_SIZE), of which each must get as many images. To give batch "
            "size and schedule as they are on this machine, add SOLVER.REFERENCE_WORLD_SIZE 0"
        )
    if not reference and batch % comm.get_world_size():
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH is {batch}, which {comm.get_world_size()} GPUs cannot share"
        )
