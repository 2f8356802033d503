"""Where detectron2 0.4 and its current main differ: this is the one place that says so."""

import detectron2.utils.events as events
from detectron2.layers import FrozenBatchNorm2d
from torch import nn


def has_event_storage() -> bool:
    """Whether the caller runs inside an ``EventStorage`` (detectron2 0.4 has no such function)."""
    return len(events._CURRENT_STORAGE_STACK) > 0


def remove_num_batches_tracked(module: nn.Module) -> None:
    """Take the count of batches off a FrozenBatchNorm2d: only main has one, made of BatchNorm2d's.

    Without it, checkpoints of both versions have the same keys.
    """
    if isinstance(module, FrozenBatchNorm2d) and hasattr(module, "num_batches_tracked"):
        module.num_batches_tracked = None


def trainer_saves_optimizer(default_trainer: type) -> bool:
    """Whether detectron2's DefaultTrainer keeps the optimizer in its checkpoints; 0.4's forgets it.

    The class is passed in, so that the model's modules do not import detectron2's engine.
    """
    return "state_dict" in vars(default_trainer)


def reset_parsed_url(checkpointer: object) -> None:
    """Let a checkpointer load again after a load that failed: main's keeps the last address."""
    if hasattr(checkpointer, "_parsed_url_during_load"):
        checkpointer._parsed_url_during_load = None
