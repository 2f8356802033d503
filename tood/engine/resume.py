"""What a resume does where the config is no longer that of the checkpoint."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.solver import LRMultiplier
from torch.optim import Optimizer

from ..config.merging import all_values

logger = logging.getLogger(__name__)

# A schedule counts as rescaled if its number of images is the old one up to rounding.
RESCALING_TOLERANCE = 0.01

# Keys that say nothing about what is learned, or that name places.
_UNCOMPARED = (
    "CUDNN_BENCHMARK",
    "DATALOADER.MAX_BAD_IMAGES",
    "DATALOADER.NUM_WORKERS",
    "DATASETS",
    "MODEL.DEVICE",
    "MODEL.TOOD.CUSTOM_IMPORTS",
    "MODEL.WEIGHTS",
    "OUTPUT_DIR",
    "SEED",  # the data loader keeps that of the checkpoint
    "SOLVER.ACCUMULATE",  # the gradient is the same
    "SOLVER.CHECKPOINT_KEEP",
    "SOLVER.CHECKPOINT_MINUTES",
    "SOLVER.CHECKPOINT_PERIOD",
    "SOLVER.REFERENCE_BATCH_SIZE",  # BASE_LR is scaled with it
    "TEST",
    "TRACKING",
    "VIS_PERIOD",
)
# Keys that follow the batch where SOLVER.EPOCHS gives the schedule.
_FOLLOWING = ("SOLVER.IMS_PER_BATCH", "SOLVER.MAX_ITER", "SOLVER.STEPS")
# Keys that detectron2 rescales with the number of processes.
_RESCALED = (
    "SOLVER.BASE_LR",
    "SOLVER.IMS_PER_BATCH",
    "SOLVER.MAX_ITER",
    "SOLVER.REFERENCE_WORLD_SIZE",
    "SOLVER.STEPS",
    "SOLVER.WARMUP_ITERS",
)


def training_settings(cfg: CfgNode) -> dict[str, Any]:
    """Return the keys that a training depends on with their values, for a checkpoint."""
    uncompared = tuple(f"{key}." for key in _UNCOMPARED)
    return {
        key: _plain(value)
        for key, value in all_values(cfg).items()
        if not f"{key}.".startswith(uncompared)
    }


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def iteration_ratio(current: Mapping[str, Any], saved: Mapping[str, Any]) -> float:
    """Return by how much the iterations of a checkpoint are to be multiplied.

    With another number of processes, detectron2 may rescale the batch and the schedule together
    (``SOLVER.REFERENCE_WORLD_SIZE``). An iteration then stands for another number of images, and
    the checkpoint's iteration is converted, so that the run keeps its epoch, its phase and its
    place in the schedule. The same where both give the schedule in epochs (``SOLVER.EPOCHS``).
    Where only the batch differs, iterations stay as they are.

    Args:
        current: what `training_settings` returns for the config.
        saved: what it returned for the checkpoint; empty if that is not known.
    """
    old_batch = saved.get("SOLVER.IMS_PER_BATCH", 0)
    new_batch = current["SOLVER.IMS_PER_BATCH"]
    old = old_batch * saved.get("SOLVER.MAX_ITER", 0)
    new = new_batch * current["SOLVER.MAX_ITER"]
    is_rescaled = abs(new - old) <= RESCALING_TOLERANCE * old or _in_epochs(current, saved)
    if not old or old_batch == new_batch or not is_rescaled:
        return 1.0
    return float(old_batch / new_batch)


def _in_epochs(current: Mapping[str, Any], saved: Mapping[str, Any]) -> bool:
    return all(settings.get("SOLVER.EPOCHS", 0) > 0 for settings in (current, saved))


def report_changes(current: Mapping[str, Any], saved: Mapping[str, Any], ratio: float) -> None:
    """Say which settings differ from the checkpoint's. The config's are applied."""
    if ratio != 1:
        logger.warning(
            "The batch has %d images, the checkpoint's had %d, and the schedule is rescaled "
            "accordingly: iterations of the checkpoint are multiplied by %g.",
            current["SOLVER.IMS_PER_BATCH"],
            saved["SOLVER.IMS_PER_BATCH"],
            ratio,
        )
    follows: tuple[str, ...] = ()
    if ratio != 1:
        by_processes = current.get("SOLVER.REFERENCE_WORLD_SIZE", 0) > 0
        in_epochs = _in_epochs(current, saved) and not by_processes
        follows = _FOLLOWING if in_epochs else _RESCALED
    for key, value in current.items():
        if key in saved and saved[key] != value and key not in follows:
            logger.warning(
                "%s is %s from here on; the checkpoint was trained with %s.", key, value, saved[key]
            )


def convert_iterations(state: Mapping[str, Any], ratio: float) -> dict[str, Any]:
    """Convert a trainer's state to iterations of another number of images.

    Args:
        state: what ``Trainer.state_dict`` returned; not changed.
        ratio: see `iteration_ratio`.
    """
    done = math.ceil((state["iteration"] + 1) * ratio)
    hooks = {name: dict(hook) for name, hook in state.get("hooks", {}).items()}
    if "last_epoch" in hooks.get("LRScheduler", {}):
        hooks["LRScheduler"]["last_epoch"] = done
    if "PhaseHook" in hooks:
        hooks["PhaseHook"]["warmup_iters"] = math.ceil(hooks["PhaseHook"]["warmup_iters"] * ratio)
    best = hooks.get("BestCheckpointHook", {})
    if best.get("best_iteration", -1) >= 0:
        best["best_iteration"] = math.ceil((best["best_iteration"] + 1) * ratio) - 1
    # Scalars and evaluations belong to the old iterations.
    hooks.pop("ResumableEvalHook", None)
    return {**state, "iteration": done - 1, "hooks": hooks, "events": {}}


def optimizer_settings(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return the settings of each parameter group, without its parameters."""
    return [
        {key: value for key, value in group.items() if key != "params"}
        for group in optimizer.param_groups
    ]


def apply_config(
    optimizer: Optimizer, scheduler: Any, configured: Sequence[Mapping[str, Any]]
) -> None:
    """Let the config decide where the checkpoint's optimizer has other settings.

    Args:
        optimizer: after its state was loaded.
        scheduler: of the learning rate, after its state was loaded.
        configured: what `optimizer_settings` returned before.
    """
    for group, settings in zip(optimizer.param_groups, configured, strict=True):
        group.update({key: value for key, value in settings.items() if key != "lr"})
    if isinstance(scheduler, LRMultiplier):
        # detectron2's schedulers compute the rate from the iteration alone.
        scheduler.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        for group, rate in zip(optimizer.param_groups, scheduler.get_lr(), strict=True):
            group["lr"] = rate
