"""Finding the weights in what a checkpoint file holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import CheckpointError

# Where programs keep the weights in what they save; the first that a file has is taken. MMEngine
# writes "ema_state_dict" beside "state_dict", and it is "state_dict" that holds the average then.
_WRAPPERS = ("state_dict", "model", "model_state_dict", "model_state", "blobs")
_EMA_WRAPPERS = ("ema_state_dict", "state_dict_ema", "model_ema", "ema", "module")

# What wrappers of modules put before every name.
_PREFIXES = ("module.", "_orig_mod.", "model.", "ema_model.", "model_ema.", "ema.", "ema_")
_EMA_PREFIXES = ("ema_model.module.", "ema_model.", "model_ema.", "ema.", "ema_")
# Counters of averaged models.
_EMA_COUNTERS = {"steps", "n_averaged", "num_updates", "decay"}


@dataclass
class LoadedWeights:
    """The weights of a file.

    Attributes:
        tensors: by the names of their layout, without the prefixes of wrappers.
        ignored: what else the file holds, in words.
    """

    tensors: dict[str, Tensor]
    ignored: list[str] = field(default_factory=list)


def extract_state_dict(data: Any, path: str) -> LoadedWeights:
    """The weights in what a checkpoint file holds, whatever is wrapped around them.

    Args:
        data: of :func:`load_file`.
        path: for messages.

    Raises:
        CheckpointError: there are none.
    """
    ignored: list[str] = []
    while isinstance(data, Mapping):
        inner = next(
            (key for key in (*_WRAPPERS, *_EMA_WRAPPERS) if isinstance(data.get(key), Mapping)),
            None,
        )
        if inner is None:
            break
        ignored += [str(key) for key in data if key != inner]
        data = data[inner]
    if not isinstance(data, Mapping):
        raise CheckpointError(f"{path} holds a {type(data).__name__}, and not weights by name")
    tensors = {}
    for key, value in data.items():
        if isinstance(value, Tensor) or (
            isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
        ):
            tensors[str(key)] = torch.as_tensor(value)
        else:
            ignored.append(str(key))
    if not tensors:
        raise CheckpointError(
            f"{path} holds no weights by name: {ignored[0] if ignored else 'it'} is no tensor"
        )
    return _without_prefixes(tensors, ignored)


def _without_prefixes(tensors: dict[str, Tensor], ignored: list[str]) -> LoadedWeights:
    """Take off the prefixes that all names share, and copies of the weights beside them."""
    names = set(tensors)
    flat_names = {name.replace(".", "_") for name in names}
    copies = {
        name
        for name in names
        for prefix in _EMA_PREFIXES
        # mmcv's EMA hook writes all dots as underscores
        if name.startswith(prefix)
        and (name[len(prefix) :] in names or name[len(prefix) :] in flat_names)
    }
    if copies:
        ignored.append(f"{len(copies)} entries like {min(copies)}, a copy of the weights")
        tensors = {name: value for name, value in tensors.items() if name not in copies}
    counters = {
        name for name in tensors if name.count(".") < 2 and name.rpartition(".")[2] in _EMA_COUNTERS
    }
    ignored += sorted(counters)
    tensors = {name: value for name, value in tensors.items() if name not in counters}
    while tensors:
        prefix = next((p for p in _PREFIXES if all(name.startswith(p) for name in tensors)), None)
        if prefix is None:
            break
        tensors = {name[len(prefix) :]: value for name, value in tensors.items()}
    return LoadedWeights(tensors, ignored)
