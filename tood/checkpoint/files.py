"""Reading checkpoint files without running what is in them, and finding the weights inside."""

import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from detectron2.utils.file_io import PathManager
from torch import Tensor

from ..errors import CheckpointError

# Where programs keep the weights in what they save; the first that a file has is taken. MMEngine
# writes "ema_state_dict" beside "state_dict", and it is "state_dict" that holds the average then.
_WRAPPERS = ("state_dict", "model", "model_state_dict", "model_state", "blobs")
_EMA_WRAPPERS = ("ema_state_dict", "model_ema", "ema")

# What wrappers of modules put before every name.
_PREFIXES = ("module.", "_orig_mod.", "model.", "ema_model.", "model_ema.", "ema.", "ema_")
_EMA_PREFIXES = ("ema_model.module.", "ema_model.", "model_ema.", "ema.", "ema_")
# Counters of averaged models.
_EMA_COUNTERS = {"steps", "n_averaged", "num_updates", "decay"}

_CODECS_ENCODE = "_codecs", "encode"


class _WeightsUnpickler(pickle.Unpickler):
    """Reads numpy arrays in plain containers, which is what detectron2's .pkl files hold."""

    # numpy's own constructors, whose modules have other names in other versions.
    _NUMPY = {  # noqa: RUF012
        "_reconstruct": np.zeros(0).__reduce__()[0],
        "scalar": np.float32(0).__reduce__()[0],
        "ndarray": np.ndarray,
        "dtype": np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Only what arrays are made of."""
        if module.split(".")[0] == "numpy" and name in self._NUMPY:
            return self._NUMPY[name]
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == _CODECS_ENCODE:  # bytes, as Python 2 wrote them
            return lambda text, encoding: text.encode(encoding)
        raise pickle.UnpicklingError(f"Unsupported global: {module}.{name}")


def locate(path: str) -> str:
    """The local path of a file or URL, which is downloaded once.

    Raises:
        CheckpointError: there is no such file, or it cannot be fetched.
    """
    try:
        local = PathManager.get_local_path(path.split("?")[0])
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be fetched ({error}): download it elsewhere and give the file"
        ) from error
    if not os.path.isfile(local):
        raise CheckpointError(f"there is no file {path}")
    return local


def read_file(path: str) -> Any:
    """What ``torch.save`` or, for a .pkl file, ``pickle.dump`` wrote; weights and plain data only.

    Args:
        path: a local file. Nothing in it is executed.

    Raises:
        CheckpointError: the file is broken, or holds other Python objects.
    """
    try:
        if path.endswith(".pkl"):
            with open(path, "rb") as file:
                return _WeightsUnpickler(file, encoding="latin1").load()
        return torch.load(path, map_location="cpu", weights_only=True)
    except (
        *(RuntimeError, EOFError, KeyError, ValueError, AttributeError, TypeError, IndexError),
        *(pickle.UnpicklingError, zipfile.BadZipFile),
    ) as error:
        if "Unsupported " in str(error):
            raise CheckpointError(
                f"{path} holds other Python objects beside weights, and reading those could run "
                "any code, so it is not read. If you trust the file, write its weights alone to a "
                'new one: torch.save(torch.load(FILE, weights_only=False)["state_dict"], NEW_FILE)'
            ) from error
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}): it is truncated, or "
            "no file that torch.save wrote"
        ) from error


@dataclass
class Weights:
    """The weights of a file.

    Attributes:
        tensors: by the names of their layout, without the prefixes of wrappers.
        left_out: what else the file holds, in words.
    """

    tensors: dict[str, Tensor]
    left_out: list[str] = field(default_factory=list)


def find_weights(data: Any, path: str) -> Weights:
    """The weights in what a checkpoint file holds, whatever is wrapped around them.

    Args:
        data: of :func:`read_file`.
        path: for messages.

    Raises:
        CheckpointError: there are none.
    """
    left_out: list[str] = []
    while isinstance(data, Mapping):
        inner = next(
            (key for key in (*_WRAPPERS, *_EMA_WRAPPERS) if isinstance(data.get(key), Mapping)),
            None,
        )
        if inner is None:
            break
        left_out += [str(key) for key in data if key != inner]
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
            left_out.append(str(key))
    if not tensors:
        raise CheckpointError(
            f"{path} holds no weights by name: {left_out[0] if left_out else 'it'} is no tensor"
        )
    return _without_prefixes(tensors, left_out)


def _without_prefixes(tensors: dict[str, Tensor], left_out: list[str]) -> Weights:
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
        left_out.append(f"{len(copies)} entries like {min(copies)}, a copy of the weights")
        tensors = {name: value for name, value in tensors.items() if name not in copies}
    counters = _EMA_COUNTERS & {name.rpartition(".")[2] for name in tensors if name.count(".") < 2}
    for name in [name for name in tensors if name.rpartition(".")[2] in counters]:
        left_out.append(name)
        del tensors[name]
    while True:
        prefix = next((p for p in _PREFIXES if all(name.startswith(p) for name in tensors)), None)
        if prefix is None or not tensors:
            return Weights(tensors, left_out)
        tensors = {name[len(prefix) :]: value for name, value in tensors.items()}
