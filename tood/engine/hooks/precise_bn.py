"""detectron2's hook for exact statistics of batch normalization, with a loader of its own."""

from collections.abc import Callable, Iterable
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine.hooks import PreciseBN
from fvcore.nn.precise_bn import get_bn_modules
from torch import nn


def build_precise_bn(
    cfg: CfgNode, model: nn.Module, build_loader: Callable[[CfgNode], Iterable[Any]]
) -> PreciseBN | None:
    """Build the hook that ``TEST.PRECISE_BN`` asks for; None if the model has nothing for it.

    Args:
        cfg: the config.
        model: the model that is trained.
        build_loader: builds a training loader, here without workers.
    """
    if not cfg.TEST.PRECISE_BN.ENABLED or not get_bn_modules(model):
        return None
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATALOADER.NUM_WORKERS = 0
    # The statistics are for evaluation, which sees one image at a time.
    cfg.INPUT.MOSAIC.ENABLED = cfg.INPUT.MIXUP.ENABLED = False
    return PreciseBN(cfg.TEST.EVAL_PERIOD, model, build_loader(cfg), cfg.TEST.PRECISE_BN.NUM_ITER)
