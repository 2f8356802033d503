"""Extract the weights from a checkpoint and remove the wrappers that programs add."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import CheckpointError
from .reader.refs import UnsupportedTensor


class _Wrapper(NamedTuple):
    """A name that programs wrap around the weights.

    Attributes:
        entry: the key of a dictionary entry that holds the weights.
        prefix: what a wrapping module adds to the front of every parameter's name.
        is_average: whether these weights are an average over training (EMA).
    """

    entry: str = ""
    prefix: str = ""
    is_average: bool = False


# The first match wins, so averages come last: they are used only if a file holds nothing else.
# MMEngine saves "ema_state_dict" next to "state_dict", and then "state_dict" holds the average.
_WRAPPERS = (
    _Wrapper("state_dict"),  # MMDetection, Lightning
    _Wrapper("model", "model."),  # detectron2
    _Wrapper("model_state_dict"),
    _Wrapper("model_state"),  # pycls
    _Wrapper("blobs"),  # Caffe2
    _Wrapper("module", "module."),  # DistributedDataParallel, AveragedModel, DeepSpeed
    _Wrapper(prefix="_orig_mod."),  # torch.compile
    _Wrapper("ema_state_dict", is_average=True),  # MMEngine
    _Wrapper("state_dict_ema", is_average=True),  # timm
    _Wrapper("model_ema", "model_ema.", is_average=True),
    _Wrapper("ema_model", "ema_model.", is_average=True),
    _Wrapper("ema_state", is_average=True),
    _Wrapper("ema", "ema.", is_average=True),
    _Wrapper(prefix="ema_", is_average=True),  # mmcv's EMA hook
)
_ENTRIES = tuple(wrapper.entry for wrapper in _WRAPPERS if wrapper.entry)
_EMA_ENTRIES = {wrapper.entry for wrapper in _WRAPPERS if wrapper.entry and wrapper.is_average}
_PREFIXES = tuple(wrapper.prefix for wrapper in _WRAPPERS if wrapper.prefix)
_EMA_PREFIXES = tuple(
    wrapper.prefix + inner
    for wrapper in _WRAPPERS
    if wrapper.prefix and wrapper.is_average
    for inner in ("", "module.")
)
# Far above any real checkpoint.
_MAX_NAME = 500
_MAX_WRAPPERS = 20
# Counters that averaged models save.
_EMA_COUNTERS = {"steps", "n_averaged", "num_updates", "decay"}


def is_average_entry(key: str) -> bool:
    """Whether programs save averaged weights (EMA) under this key of a checkpoint."""
    return key in _EMA_ENTRIES


def weights_entry(data: Mapping[str, Any]) -> str | None:
    """The key of the entry that holds the weights; None if no known entry does."""
    return next((entry for entry in _ENTRIES if isinstance(data.get(entry), Mapping)), None)


def extract_state_dict(data: Any, path: str) -> tuple[dict[str, Tensor], list[str]]:
    """Extract the weights from the contents of a checkpoint.

    Args:
        data: what :func:`~tood.checkpoint.safe_load.load_file` returned.
        path: the file, for messages.

    Returns:
        The tensors by name, without the prefixes of wrapping modules; and what else the file
        holds, in words.

    Raises:
        CheckpointError: the file holds no weights.
    """
    ignored: list[str] = []
    while isinstance(data, Mapping):
        entry = weights_entry(data)
        if entry is None:
            break
        ignored += [str(key) for key in data if key != entry]
        data = data[entry]
    if not isinstance(data, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(data).__name__} instead of weights by name. Save "
            "model.state_dict() to a new file."
        )
    tensors = {}
    for key, value in data.items():
        name = str(key)
        if len(name) > _MAX_NAME:
            raise CheckpointError(
                f"{path} has a parameter whose name has {len(name)} characters, {name[:40]}... The "
                "file is damaged."
            )
        if isinstance(value, UnsupportedTensor):
            raise CheckpointError(
                f"{path}: {name} is no dense tensor ({value.kind}), and only dense tensors can be "
                "loaded. Save the weights as dense floating-point tensors: value.to_dense(), "
                "value.dequantize() or value.contiguous()."
            )
        if isinstance(value, Tensor):
            tensors[name] = value
        elif isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            tensors[name] = torch.as_tensor(value.astype(value.dtype.newbyteorder("="), copy=False))
        else:
            ignored.append(name)
    if not tensors:
        found = f"its entry {ignored[0]} is not a tensor" if ignored else "it is empty"
        raise CheckpointError(f"{path} holds no weights: {found}. Use a file with a state_dict.")
    tensors, dropped = _remove_prefixes(tensors)
    return tensors, ignored + dropped


def _remove_prefixes(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Remove prefixes that all names share, and averages that are saved next to the weights.

    Returns:
        The remaining tensors; and what was dropped, in words.
    """
    flat_names = {name.replace(".", "_") for name in tensors}
    copies = {
        name
        for name in tensors
        for prefix in _EMA_PREFIXES
        # mmcv's EMA hook replaces the dots of a name by underscores.
        if name.startswith(prefix)
        and (name[len(prefix) :] in tensors or name[len(prefix) :] in flat_names)
    }
    dropped = [f"{len(copies)} entries like {min(copies)}, a copy of the weights"] if copies else []
    tensors = {name: value for name, value in tensors.items() if name not in copies}
    counters = {
        name for name in tensors if name.count(".") < 2 and name.rpartition(".")[2] in _EMA_COUNTERS
    }
    dropped += sorted(counters)
    tensors = {name: value for name, value in tensors.items() if name not in counters}
    for _ in range(_MAX_WRAPPERS):
        prefix = next((p for p in _PREFIXES if all(name.startswith(p) for name in tensors)), None)
        if prefix is None or not tensors:
            break
        tensors = {name[len(prefix) :]: value for name, value in tensors.items()}
    return tensors, dropped
