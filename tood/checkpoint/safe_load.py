"""Reading checkpoint files without running what is in them."""

import os
import pickle
import re
from collections import OrderedDict
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import numpy as np
import torch
from detectron2.utils.file_io import PathManager

from ..errors import CheckpointError


class _PickledDtype:
    """Stands in for ``numpy.dtype`` while a pickle is read."""

    def __init__(self, text: object = "", *_: object) -> None:
        self.text, self.order = str(text), "="

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]

    def dtype(self) -> np.dtype:
        """The real one; of plain numbers only."""
        if not re.fullmatch("[biuf][1248]", self.text) or self.order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"Unsupported global: dtype {self.text}")
        return np.dtype(self.order + self.text)


class _PickledArray:
    """Stands in for ``numpy.ndarray``: remembers what the file says an array is made of."""

    def __init__(self, *_: object) -> None:
        self.parts: tuple = ()

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, data = state
        self.parts = shape, dtype, is_fortran, data

    @classmethod
    def scalar(cls, dtype: _PickledDtype, data: bytes | str) -> "_PickledArray":
        """Stands in for numpy's constructor of single numbers."""
        array = cls()
        array.parts = (), dtype, False, data
        return array

    @classmethod
    def from_buffer(
        cls, data: bytes, dtype: _PickledDtype, shape: tuple, order: str
    ) -> "_PickledArray":
        """Stands in for numpy's constructor in pickles of protocol 5."""
        array = cls()
        array.parts = shape, dtype, order == "F", data
        return array

    def array(self) -> np.ndarray:
        """The real one; ``numpy`` checks that the bytes are as many as the shape needs."""
        shape, dtype, is_fortran, data = self.parts
        data = data.encode("latin1") if isinstance(data, str) else bytes(data)
        array = np.frombuffer(data, dtype.dtype())
        return array.reshape(shape, order="F" if is_fortran else "C").copy()


class _WeightsUnpickler(pickle.Unpickler):
    """Reads numpy arrays in plain containers, which is what detectron2's .pkl files hold.

    No constructor of numpy's gets anything from the file: those trust what they are given, down to
    addresses in memory.
    """

    _NUMPY = {  # noqa: RUF012
        "_reconstruct": _PickledArray,
        "_frombuffer": _PickledArray.from_buffer,
        "scalar": _PickledArray.scalar,
        "ndarray": _PickledArray,
        "dtype": _PickledDtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Only what arrays are made of; numpy's modules have other names in other versions."""
        if module.split(".")[0] == "numpy" and name in self._NUMPY:
            return self._NUMPY[name]
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("_codecs", "encode"):  # bytes, as Python 2 wrote them
            return lambda text, _: text.encode("latin1")
        if (module, name) in (("builtins", "bytes"), ("__builtin__", "bytes")):  # empty ones
            return lambda: b""
        raise pickle.UnpicklingError(f"Unsupported global: {module}.{name}")


def _with_arrays(data: Any) -> Any:
    """What was unpickled, with real arrays in the place of what stands in for them."""
    if isinstance(data, _PickledArray):
        return data.array()
    if isinstance(data, dict):
        return {key: _with_arrays(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return type(data)(map(_with_arrays, data))
    return data


def resolve_path(path: str) -> str:
    """The local path of a file or URL, which is downloaded once.

    Args:
        path: detectron2's option ``matching_heuristics`` in its query is not part of an address.

    Raises:
        CheckpointError: there is no such file, or it cannot be fetched.
    """
    address, _, query = path.partition("?")
    if urlsplit(address).scheme in ("http", "https"):
        query = [item for item in parse_qsl(query, True) if item[0] != "matching_heuristics"]
        address += f"?{urlencode(query)}" if query else ""
    try:
        local = PathManager.get_local_path(address)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be fetched ({error}): download it elsewhere and give the file"
        ) from error
    if not os.path.isfile(local):
        raise CheckpointError(f"there is no file {path}: check the path")
    return local


def load_file(path: str) -> Any:
    """What ``torch.save`` or, for a .pkl file, ``pickle.dump`` wrote; weights and plain data only.

    Args:
        path: a local file. Nothing in it is executed.

    Raises:
        CheckpointError: the file is broken, or holds other Python objects.
    """
    try:
        if path.endswith(".pkl"):
            with open(path, "rb") as file:
                return _with_arrays(_WeightsUnpickler(file, encoding="latin1").load())
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # readers of broken files raise whatever they stumble over
        if re.search("Unsupported (global|class)", str(error)):
            raise CheckpointError(
                f"{path} holds other Python objects beside weights, and reading those could run "
                "any code, so it is not read. If you trust the file, write its weights alone to a "
                'new one: torch.save(torch.load(FILE, weights_only=False)["state_dict"], NEW_FILE)'
            ) from error
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}): it is truncated, or "
            "no file that torch.save wrote, such as the web page of a download; download or copy "
            "it again"
        ) from error
