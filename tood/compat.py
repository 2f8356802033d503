"""Everything that depends on the detectron2 version (0.4 or main) or on its private parts.

The model imports this module, so it imports neither detectron2's engine nor its evaluation.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import detectron2.utils.events as events
from detectron2.layers import FrozenBatchNorm2d
from detectron2.utils import comm
from torch import nn


def has_event_storage() -> bool:
    """Whether the caller runs inside an ``EventStorage``. detectron2 0.4 has no such function."""
    return len(events._CURRENT_STORAGE_STACK) > 0


def remove_num_batches_tracked(module: nn.Module) -> None:
    """Remove ``num_batches_tracked``, which only detectron2 main's FrozenBatchNorm2d has.

    It keeps the counter of the BatchNorm2d that it is converted from. Without it, checkpoints of
    both versions have the same keys.
    """
    if isinstance(module, FrozenBatchNorm2d) and hasattr(module, "num_batches_tracked"):
        module.num_batches_tracked = None


def gloo_group() -> Any:
    """Return detectron2's process group of all processes over gloo, for data on the CPU."""
    return comm._get_global_gloo_group()


def trainer_saves_optimizer(default_trainer: type) -> bool:
    """Whether ``DefaultTrainer`` saves the optimizer: main's does, 0.4's leaves it out.

    Args:
        default_trainer: ``detectron2.engine.DefaultTrainer``, which this module does not import.
    """
    return "state_dict" in vars(default_trainer)


def add_optimizer_state(state_dict: dict[str, Any], inner: Any, default_trainer: type) -> None:
    """Add the optimizer and the loss scale to a trainer's state, in main's format.

    Either version can then resume from the other's checkpoints.

    Args:
        state_dict: what ``DefaultTrainer.state_dict`` returned; changed in place.
        inner: the ``_trainer`` of the DefaultTrainer, which owns the optimizer.
        default_trainer: see `trainer_saves_optimizer`.
    """
    if not trainer_saves_optimizer(default_trainer):
        state_dict["_trainer"] = inner.state_dict()


def load_optimizer_state(state_dict: dict[str, Any], inner: Any, default_trainer: type) -> None:
    """Load what `add_optimizer_state` saved, unless ``DefaultTrainer`` has done it.

    Args:
        state_dict: what ``DefaultTrainer.load_state_dict`` got.
        inner: see `add_optimizer_state`.
        default_trainer: see `trainer_saves_optimizer`.
    """
    if not trainer_saves_optimizer(default_trainer):
        inner.load_state_dict(state_dict["_trainer"])


@contextmanager
def replaced_cocoeval(implementation: Callable[..., Any]) -> Iterator[None]:
    """Let detectron2's ``COCOEvaluator`` compute with another class than pycocotools' ``COCOeval``.

    Both versions look the class up as a global of their module and offer no other way.

    Args:
        implementation: called as ``COCOeval`` is.
    """
    from detectron2.evaluation import coco_evaluation

    original = coco_evaluation.COCOeval
    coco_evaluation.COCOeval = implementation
    try:
        yield
    finally:
        coco_evaluation.COCOeval = original
