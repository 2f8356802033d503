"""Everything that depends on the detectron2 version (0.4 or main) or on its private parts.

The model imports this module, so it imports neither detectron2's engine nor its evaluation.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import detectron2.utils.events as events
import numpy as np
import torch
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
    """Return detectron2's process group of all processes over gloo, for data on the CPU.

    It has no public name in either version.
    """
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


def convert_what_detectron2_loads(
    convert: Callable[[nn.Module, dict[str, Any], str], dict[str, Any]],
) -> None:
    """Pass what detectron2's ``DetectionCheckpointer`` has read from a file through a function.

    Neither version has a place for that, so a private method is wrapped, once per process.

    Args:
        convert: called with the model, what was read (the weights are under "model"), and the path;
            it returns what is loaded instead.
    """
    from detectron2.checkpoint import DetectionCheckpointer

    read = DetectionCheckpointer._load_file
    if hasattr(read, "__wrapped__"):
        return

    @functools.wraps(read)
    def read_and_convert(self: Any, filename: str) -> dict[str, Any]:
        return convert(self.model, read(self, filename), filename)

    DetectionCheckpointer._load_file = read_and_convert


def create_local_process_group(local_size: int) -> None:
    """Create detectron2's groups of the processes on one machine; all processes call it together.

    detectron2's ``launch`` does it for the processes that it starts. 0.4 has no function for it.

    Args:
        local_size: number of processes on each machine, whose ranks follow each other.
    """
    if hasattr(comm, "create_local_process_group"):
        comm.create_local_process_group(local_size)
        return
    for start in range(0, comm.get_world_size(), local_size):
        ranks = list(range(start, start + local_size))
        group = torch.distributed.new_group(ranks)
        if comm.get_rank() in ranks:
            comm._LOCAL_PROCESS_GROUP = group


@contextmanager
def cpu_ddp() -> Iterator[None]:
    """Let detectron2's ``DefaultTrainer`` build DistributedDataParallel for any device.

    It always passes the rank within the machine as the GPU. A model on the CPU refuses that, and it
    is the wrong GPU where each process sees only its own, as with ``srun --gpus-per-task 1``.
    """
    from detectron2.engine import defaults

    original = defaults.DistributedDataParallel

    def build(model: nn.Module, device_ids: Any = None, **options: Any) -> nn.Module:
        device = next(model.parameters()).device
        device_ids = [device.index] if device.type == "cuda" else None
        wrapped: nn.Module = original(model, device_ids=device_ids, **options)
        return wrapped

    defaults.DistributedDataParallel = build
    try:
        yield
    finally:
        defaults.DistributedDataParallel = original


def compute_on_main_process(compute: Callable[[], Any]) -> Any:
    """Call a function in the main process, and return its result in every process.

    An error is raised in every process too, so none waits for another.

    Args:
        compute: its result must be picklable.
    """
    if comm.get_world_size() == 1:
        return compute()
    outcome: list[Any] = [None, None]
    if comm.is_main_process():
        try:
            outcome[0] = compute()
        except Exception as error:  # every process has to know
            outcome[1] = error
    torch.distributed.broadcast_object_list(outcome, src=0, group=gloo_group())
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


@contextmanager
def numpy_float() -> Iterator[None]:
    """Provide ``numpy.float``, which lvis 0.5.3 uses and NumPy 1.24 removed."""
    missing = not hasattr(np, "float")
    if missing:
        np.float = float  # type: ignore[attr-defined]
    try:
        yield
    finally:
        if missing:
            del np.float  # type: ignore[attr-defined]
