"""The schedule of a config: epochs and iterations, and the learning rate of a batch."""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer
from detectron2.utils import comm

from ..config.validation import validate_warmup
from ..data import TrainLoader
from ..data.multi_image import uses_several_images
from ..errors import ConfigError

logger = logging.getLogger(__name__)


def epochs_to_iters(epochs: float, num_images: int, images_per_batch: int) -> int:
    """Convert a number of epochs to iterations, rounded up.

    Args:
        epochs: at least 0; fractions are allowed.
        num_images: images in an epoch: the training set after filtering.
        images_per_batch: over all processes (``SOLVER.IMS_PER_BATCH``).

    Returns:
        The number of iterations, which is also the first iteration after these epochs.
    """
    # Multiply first, so that the result is rounded up only once.
    return math.ceil(epochs * num_images / images_per_batch)


def iters_to_epochs(iters: int, num_images: int, images_per_batch: int) -> float:
    """Convert a number of iterations to epochs; the arguments as in `epochs_to_iters`."""
    return iters * images_per_batch / num_images


def epoch_length(num_images: int, images_per_batch: int) -> int:
    """Iterations of an epoch of ``SOLVER.EPOCHS``: the last batch counts as a whole one.

    Args:
        num_images: see `epochs_to_iters`.
        images_per_batch: likewise.
    """
    return -(-num_images // images_per_batch)


def warmup_phase_length(cfg: CfgNode, num_images: int) -> int:
    """Iterations of the ATSS warm-up phase, ``MODEL.TOOD.WARMUP.EPOCHS``.

    With ``SOLVER.EPOCHS``, its epochs are as long as those of the schedule.

    Args:
        cfg: the config, rescaled for the number of processes.
        num_images: see `epochs_to_iters`.
    """
    return _schedule_iters(cfg, cfg.MODEL.TOOD.WARMUP.EPOCHS, num_images)


def _schedule_iters(cfg: CfgNode, epochs: float, num_images: int) -> int:
    """Iterations of epochs, which are those of the schedule if it is given in epochs."""
    batch = cfg.SOLVER.IMS_PER_BATCH
    if cfg.SOLVER.EPOCHS:
        # Without the rounding, 1.1 epochs of 10 iterations were 12.
        return math.ceil(round(epochs * epoch_length(num_images, batch), 6))
    return epochs_to_iters(epochs, num_images, batch)


def multi_image_end(cfg: CfgNode, num_images: int) -> int | None:
    """The first iteration without mosaic and mix-up, ``INPUT.MULTI_IMAGE_OFF_EPOCHS``.

    Args:
        cfg: the config, with the iterations of ``SOLVER.EPOCHS`` if that is set, and rescaled for
            the number of processes.
        num_images: see `epochs_to_iters`.

    Returns:
        The iteration; None if the config has neither of them.

    Raises:
        ConfigError: there is no iteration with them.
    """
    if not uses_several_images(cfg):
        return None
    max_iter, epochs = cfg.SOLVER.MAX_ITER, cfg.INPUT.MULTI_IMAGE_OFF_EPOCHS
    iters = _schedule_iters(cfg, epochs, num_images)
    if iters >= max_iter:
        raise ConfigError(
            f"INPUT.MULTI_IMAGE_OFF_EPOCHS is {epochs:g}, {iters} iterations, but training has "
            f"only {max_iter}, so mosaic and mix-up would never be used. Set it to a smaller "
            "number, or set their ENABLED to False."
        )
    end = int(max_iter - iters)
    names = [f"INPUT.{name}" for name in ("MOSAIC", "MIXUP") if cfg.INPUT[name].ENABLED]
    logger.info("%s: until iteration %d of %d.", " and ".join(names), end, max_iter)
    return end


def loader_length(loader: Any) -> int:
    """Images in an epoch of a training loader.

    Raises:
        TypeError: it is no `TrainLoader`.
    """
    if not isinstance(loader, TrainLoader):
        raise TypeError(
            f"build_train_loader returned a {type(loader).__name__}, but the trainer needs the "
            "length of an epoch: return tood.data.TrainLoader(loader, num_images)"
        )
    return loader.num_images


def schedule_epochs(
    cfg: CfgNode, build_loader: Callable[[CfgNode], Any]
) -> tuple[CfgNode, TrainLoader | None]:
    """Convert what a config gives in epochs to iterations.

    Only the training set knows the length of an epoch, so its loader is built if anything is given
    in epochs. The result has the keys in epochs too, and is converted to itself.

    Args:
        cfg: the config; not changed.
        build_loader: builds the training loader.

    Returns:
        The config, rescaled for the number of processes if the loader was built; and the loader, or
        None.

    Raises:
        ConfigError: the LR warmup is too long for the schedule.
    """
    if not cfg.SOLVER.EPOCHS and not cfg.TEST.EVAL_EPOCHS:
        return cfg, None
    cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
    loader = build_loader(cfg)
    num_images = loader_length(loader)
    return convert_epochs(cfg, num_images), loader


def convert_epochs(cfg: CfgNode, num_images: int) -> CfgNode:
    """Return a config with ``MAX_ITER``, ``STEPS`` and ``EVAL_PERIOD`` for its epochs.

    Args:
        cfg: rescaled for the number of processes; not changed.
        num_images: see `epochs_to_iters`.

    Raises:
        ConfigError: the LR warmup is too long for the schedule.
    """
    length = epoch_length(num_images, cfg.SOLVER.IMS_PER_BATCH)
    is_frozen, cfg = cfg.is_frozen(), cfg.clone()
    cfg.defrost()
    solver, epochs = cfg.SOLVER, cfg.SOLVER.EPOCHS
    if cfg.TEST.EVAL_EPOCHS:
        cfg.TEST.EVAL_PERIOD = cfg.TEST.EVAL_EPOCHS * length
    if epochs:
        solver.MAX_ITER = epochs * length
        steps = [step * length for step in solver.EPOCH_STEPS] or [
            round(solver.MAX_ITER * twelfths / 12) for twelfths in (8, 11)
        ]
        # Where few iterations are rounded, steps may be equal.
        solver.STEPS = tuple(sorted({step for step in steps if 0 < step < solver.MAX_ITER}))
        _log_schedule(cfg, num_images, length)
        validate_warmup(cfg)
    if is_frozen:
        cfg.freeze()
    return cfg


def _log_schedule(cfg: CfgNode, num_images: int, length: int) -> None:
    solver = cfg.SOLVER
    drops = ""
    if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        drops = (
            f" The learning rate drops at {', '.join(map(str, solver.STEPS)) or 'no iteration'}."
        )
    logger.info(
        "SOLVER.EPOCHS %d replaces MAX_ITER and STEPS: %d iterations, %d for each epoch of %d "
        "images.%s",
        solver.EPOCHS,
        solver.MAX_ITER,
        length,
        num_images,
        drops,
    )
    if solver.WARMUP_ITERS > solver.MAX_ITER / 2:
        logger.warning(
            "The LR warmup, SOLVER.WARMUP_ITERS %d, takes more than half of the %d iterations. "
            "Set it to a few percent of them, or train for more epochs.",
            solver.WARMUP_ITERS,
            solver.MAX_ITER,
        )


def scale_lr(cfg: CfgNode) -> CfgNode:
    """Return a config with the learning rate of its batch, where ``SOLVER.AUTO_SCALE_LR`` asks.

    ``REFERENCE_BATCH_SIZE`` of the result is the batch itself, so that it is not scaled again.

    Args:
        cfg: the config; not changed.
    """
    batch, reference = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.REFERENCE_BATCH_SIZE
    if not cfg.SOLVER.AUTO_SCALE_LR or batch == reference:
        return cfg
    is_frozen, cfg = cfg.is_frozen(), cfg.clone()
    cfg.defrost()
    solver, given = cfg.SOLVER, cfg.SOLVER.BASE_LR
    solver.BASE_LR = given * batch / reference
    if "BASE_LR_END" in solver:  # of a cosine schedule, not in detectron2 0.4
        solver.BASE_LR_END = solver.BASE_LR_END * batch / reference
    solver.REFERENCE_BATCH_SIZE = batch
    logger.info(
        "SOLVER.AUTO_SCALE_LR: the learning rate is %g for %d images, in proportion to %g for %d.",
        solver.BASE_LR,
        batch,
        given,
        reference,
    )
    if is_frozen:
        cfg.freeze()
    return cfg


@contextmanager
def use_loader(trainer: Any, loader: TrainLoader | None) -> Iterator[None]:
    """Let detectron2's constructor take a loader that exists already, instead of a second one.

    Args:
        trainer: whose constructor runs inside.
        loader: what its first ``build_train_loader`` returns; None builds one.
    """
    if loader is None:
        yield
        return
    ready, build = [loader], trainer.build_train_loader
    # On the instance, because it is a class method that subclasses override.
    vars(trainer)["build_train_loader"] = lambda cfg: ready.pop() if ready else build(cfg)
    try:
        yield
    finally:
        del vars(trainer)["build_train_loader"]
