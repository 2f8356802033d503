"""Rules of the keys of the optimizer, the schedule and the run: ``SOLVER`` and the top level."""

import logging

from detectron2.config import CfgNode

from ...errors import ConfigError
from ..merging import get_value
from .rules import (
    Rule,
    apply_rules,
    integer,
    is_increasing,
    list_of,
    number,
    one_of,
    optional,
    pair,
    text,
)

logger = logging.getLogger(__name__)

# Larger values are typos that would hang or run out of memory.
_MAX_BATCH = 65_536
# Published detectors use a tenth of it.
_MAX_ADAMW_LR = 0.001
# NumPy's limit of 2^32, with room for detectron2, which adds the rank.
_MAX_SEED = 4_000_000_000

_MULTI_STEP, _COSINE, _FIXED_GAMMA = (
    "WarmupMultiStepLR",
    "WarmupCosineLR",
    "WarmupStepWithFixedGammaLR",
)

SOLVER_RULES = (
    Rule("SOLVER.MAX_ITER", integer(1)),
    Rule("SOLVER.EPOCHS", integer(0), "0 counts SOLVER.MAX_ITER."),
    Rule("SOLVER.IMS_PER_BATCH", integer(1, _MAX_BATCH), "It counts the images of all GPUs."),
    Rule("SOLVER.ACCUMULATE", integer(1), "1 processes a batch as a whole."),
    Rule("SOLVER.REFERENCE_WORLD_SIZE", integer(0), "0 disables automatic rescaling."),
    Rule("SOLVER.REFERENCE_BATCH_SIZE", integer(1, _MAX_BATCH)),
    Rule("SOLVER.BASE_LR", number(0)),
    Rule("SOLVER.BIAS_LR_FACTOR", number(0)),
    Rule("SOLVER.FREEZE", list_of(text(), "patterns of parameter names")),
    Rule(
        "SOLVER.LR_FACTORS",
        list_of(pair(text(), number(above=0)), "pairs of a pattern and a number above 0"),
        'Such as [["backbone.*", 0.1]]. To train a part not at all, use SOLVER.FREEZE.',
    ),
    Rule("SOLVER.OPTIMIZER", one_of(("SGD", "AdamW"))),
    Rule("SOLVER.MOMENTUM", number(0, 1)),
    Rule("SOLVER.WEIGHT_DECAY", number(0)),
    Rule("SOLVER.WEIGHT_DECAY_NORM", optional(number(0))),
    Rule("SOLVER.WEIGHT_DECAY_BIAS", optional(number(0))),
    Rule("SOLVER.WARMUP_ITERS", integer(0), "0 starts with the full learning rate."),
    Rule("SOLVER.WARMUP_FACTOR", number(0)),
    Rule("SOLVER.WARMUP_METHOD", one_of(("constant", "linear"))),
    Rule("SOLVER.CHECKPOINT_PERIOD", integer(1), "Use SOLVER.MAX_ITER to save only at the end."),
    Rule("SOLVER.CHECKPOINT_MINUTES", number(0), "0 saves by SOLVER.CHECKPOINT_PERIOD only."),
    Rule("SOLVER.EMA.DECAY", number(0, 1)),
    Rule("SOLVER.EMA.RAMP_UP", number(0), "0 has the whole decay from the first step."),
    Rule("SOLVER.CHECKPOINT_KEEP", integer(0), "0 keeps all."),
    Rule("TEST.EVAL_PERIOD", integer(0), "0 evaluates after the last iteration only."),
    Rule("TEST.PATIENCE", integer(0), "0 trains to the end."),
    Rule("TEST.EVAL_EPOCHS", integer(0), "0 counts TEST.EVAL_PERIOD."),
    Rule("SEED", integer(high=_MAX_SEED), "A negative seed draws one at random."),
    Rule("VIS_PERIOD", integer(), "0 disables drawing."),
    Rule("FLOAT32_PRECISION", one_of(("", "highest", "high", "medium"))),
)

# By scheduler: the keys that only it reads.
_SCHEDULE_RULES = {
    _MULTI_STEP: (
        Rule("SOLVER.GAMMA", number(0)),
        Rule(
            "SOLVER.STEPS",
            list_of(integer(1), "integers of at least 1"),
            "() keeps the learning rate.",
        ),
        Rule(
            "SOLVER.EPOCH_STEPS",
            list_of(integer(1), "integers of at least 1"),
            "() stands for 8/12 and 11/12 of SOLVER.EPOCHS.",
        ),
    ),
    _COSINE: (Rule("SOLVER.BASE_LR_END", number(0)),),
    _FIXED_GAMMA: (
        Rule("SOLVER.GAMMA", number(above=0)),
        Rule("SOLVER.NUM_DECAYS", integer(1)),
    ),
}

_CLIPPING_RULES = (
    Rule("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", one_of(("value", "norm"))),
    Rule("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", number(above=0)),
    Rule("SOLVER.CLIP_GRADIENTS.NORM_TYPE", number(above=0, finite=False)),
)

_PRECISE_BN_RULES = (Rule("TEST.PRECISE_BN.NUM_ITER", integer(1)),)


def validate_schedule(cfg: CfgNode, world_size: int, own_scheduler: bool = False) -> None:
    """Raise a ConfigError for values with which no optimizer or schedule can be built.

    Args:
        cfg: the config, before detectron2 rescales it for the number of processes.
        world_size: number of processes.
        own_scheduler: the trainer builds a schedule of its own, so the keys that only detectron2's
            schedules read are not checked.
    """
    solver = cfg.SOLVER
    if not own_scheduler:
        apply_rules(cfg, (Rule("SOLVER.LR_SCHEDULER_NAME", one_of(_available_schedulers(cfg))),))
        apply_rules(cfg, _SCHEDULE_RULES[solver.LR_SCHEDULER_NAME])
    apply_rules(cfg, SOLVER_RULES)
    if solver.CLIP_GRADIENTS.ENABLED:
        apply_rules(cfg, _CLIPPING_RULES)
    if cfg.TEST.PRECISE_BN.ENABLED:
        apply_rules(cfg, _PRECISE_BN_RULES)
    if solver.NESTEROV and not solver.MOMENTUM and solver.OPTIMIZER == "SGD":
        raise ConfigError(
            "SOLVER.NESTEROV is True, but SOLVER.MOMENTUM is 0. Set a momentum, or NESTEROV False."
        )
    _validate_patience(cfg)
    _validate_best(cfg)
    _validate_batch(cfg, world_size)
    if not own_scheduler and solver.LR_SCHEDULER_NAME == _MULTI_STEP:
        _validate_epoch_steps(solver)
    _validate_rescaled(cfg, world_size, own_scheduler)
    if solver.OPTIMIZER == "AdamW" and solver.BASE_LR > _MAX_ADAMW_LR:
        logger.warning(
            "SOLVER.BASE_LR is %g, which suits SGD: AdamW's steps do not depend on the size of the "
            "gradient. Start with 0.0001.",
            solver.BASE_LR,
        )
    if solver.BASE_LR == 0:
        logger.warning("SOLVER.BASE_LR is 0, so training changes no weights.")


def _available_schedulers(cfg: CfgNode) -> tuple[str, ...]:
    # The key came with the schedule, in detectron2 after 0.6.
    newer = (_FIXED_GAMMA,) if "NUM_DECAYS" in cfg.SOLVER else ()
    return (_COSINE, _MULTI_STEP, *newer)


def _validate_patience(cfg: CfgNode) -> None:
    if not cfg.TEST.PATIENCE:
        return
    has_test_set = cfg.DATASETS.TEST or cfg.DATASETS.TEST_ANNOTATIONS
    for is_missing, what in (
        (not has_test_set, "there is no test set. Set DATASETS.TEST_ANNOTATIONS"),
        (
            not (cfg.TEST.EVAL_PERIOD or cfg.TEST.EVAL_EPOCHS),
            "TEST.EVAL_PERIOD and EVAL_EPOCHS are 0. Set how often to evaluate",
        ),
        (not cfg.TEST.BEST_METRIC, "TEST.BEST_METRIC is ''. Set the metric that has to improve"),
    ):
        if is_missing:
            raise ConfigError(
                f"TEST.PATIENCE is {cfg.TEST.PATIENCE}, but {what}, or TEST.PATIENCE to 0."
            )


def _validate_best(cfg: CfgNode) -> None:
    metric = cfg.TEST.BEST_METRIC
    if cfg.SOLVER.EMA.ENABLED and metric.startswith("raw_"):
        raise ConfigError(
            f"TEST.BEST_METRIC is {metric!r}, but with SOLVER.EMA the best checkpoint is the "
            f"average. Set it to {metric.removeprefix('raw_')!r}."
        )


def _validate_batch(cfg: CfgNode, world_size: int) -> None:
    batch, reference = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.REFERENCE_WORLD_SIZE
    if reference and cfg.SOLVER.AUTO_SCALE_LR:
        raise ConfigError(
            f"SOLVER.AUTO_SCALE_LR is True, but SOLVER.REFERENCE_WORLD_SIZE is {reference}, which "
            "scales the learning rate too. Set one of them to False or 0."
        )
    if reference and batch % reference:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH is {batch}, which does not divide among the {reference} GPUs "
            "that the config is written for (SOLVER.REFERENCE_WORLD_SIZE). To disable automatic "
            "rescaling and use batch size and schedule as given, add "
            "SOLVER.REFERENCE_WORLD_SIZE 0."
        )
    if not reference and batch % world_size:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH is {batch}, which does not divide among {world_size} GPUs. Use "
            "a multiple of their number."
        )
    per_gpu = batch // (reference or world_size)
    if per_gpu % cfg.SOLVER.ACCUMULATE:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH {batch} is {per_gpu} images on each GPU, which do not divide "
            f"into {cfg.SOLVER.ACCUMULATE} parts (SOLVER.ACCUMULATE)."
            + (
                f" The batch is rescaled to the number of GPUs from {reference} "
                "(SOLVER.REFERENCE_WORLD_SIZE); set that to 0 to keep it."
                if reference
                else ""
            )
        )


def _validate_rescaled(cfg: CfgNode, world_size: int, own_scheduler: bool) -> None:
    """Check what depends on the schedule's length, which detectron2 rescales."""
    solver = cfg.SOLVER
    factor = (solver.REFERENCE_WORLD_SIZE or world_size) / world_size
    # As in DefaultTrainer.auto_scale_workers.
    max_iter = round(solver.MAX_ITER * factor)
    rescaled = ""
    if factor != 1:
        rescaled = (
            f" after rescaling from {solver.REFERENCE_WORLD_SIZE} to {world_size} GPUs "
            "(SOLVER.REFERENCE_WORLD_SIZE; 0 disables it)"
        )
    # An EVAL_PERIOD of 0 would silently evaluate at the end only.
    unread = {"SOLVER.MAX_ITER": solver.EPOCHS, "TEST.EVAL_PERIOD": cfg.TEST.EVAL_EPOCHS}
    for key in ("SOLVER.MAX_ITER", "SOLVER.CHECKPOINT_PERIOD", "TEST.EVAL_PERIOD"):
        value = 0 if unread.get(key) else get_value(cfg, key)
        if value > 0 and round(value * factor) == 0:
            raise ConfigError(f"{key} becomes 0{rescaled}. Use a larger number.")
    if own_scheduler:
        return
    if solver.LR_SCHEDULER_NAME == _MULTI_STEP and not solver.EPOCHS:
        steps = [round(step * factor) for step in solver.STEPS]
        if not is_increasing([0, *steps]):
            raise ConfigError(
                f"SOLVER.STEPS is {steps}{rescaled}, but each iteration must be larger than the "
                "one before it. Sort them and remove duplicates."
            )
        if max_iter in steps:
            raise ConfigError(
                f"SOLVER.STEPS has {max_iter}{rescaled}, which is SOLVER.MAX_ITER: the learning "
                "rate cannot drop after the last iteration. Remove it."
            )
    elif solver.LR_SCHEDULER_NAME == _COSINE and "BASE_LR_END" in solver:
        if not solver.BASE_LR_END <= solver.BASE_LR or solver.BASE_LR == 0:
            raise ConfigError(
                f"SOLVER.BASE_LR is {solver.BASE_LR} and BASE_LR_END {solver.BASE_LR_END}, but "
                f"{_COSINE} needs a learning rate above 0 that is not below its end."
            )
    elif not solver.EPOCHS:
        validate_warmup(cfg)


def validate_warmup(cfg: CfgNode) -> None:
    """Raise a ConfigError if the LR warmup is too long for the schedule.

    Args:
        cfg: the config, with the iterations of ``SOLVER.EPOCHS`` if that is set.
    """
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME == _FIXED_GAMMA and solver.WARMUP_ITERS >= solver.MAX_ITER:
        raise ConfigError(
            f"SOLVER.WARMUP_ITERS is {solver.WARMUP_ITERS}, but {_FIXED_GAMMA} needs fewer than "
            f"SOLVER.MAX_ITER, {solver.MAX_ITER}."
        )


def _validate_epoch_steps(solver: CfgNode) -> None:
    steps = list(solver.EPOCH_STEPS)
    if not steps:
        return
    if not solver.EPOCHS:
        raise ConfigError(
            f"SOLVER.EPOCH_STEPS is {steps}, but SOLVER.EPOCHS is 0, so that MAX_ITER and STEPS "
            'count. Set SOLVER.EPOCHS, or SOLVER.EPOCH_STEPS "()".'
        )
    if not is_increasing([0, *steps]):
        raise ConfigError(
            f"SOLVER.EPOCH_STEPS is {steps}, but each epoch must be larger than the one before it. "
            "Sort them and remove duplicates."
        )
    if steps[-1] >= solver.EPOCHS:
        raise ConfigError(
            f"SOLVER.EPOCH_STEPS has {steps[-1]}, but training ends after {solver.EPOCHS} epochs "
            '(SOLVER.EPOCHS). Remove it; "()" stands for 8/12 and 11/12 of the epochs.'
        )
