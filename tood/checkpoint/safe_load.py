"""Read checkpoint files without executing anything in them."""

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
    """Stands in for ``numpy.dtype`` during unpickling."""

    def __init__(self, text: object = "", *_: object) -> None:
        self.text, self.order = str(text), "="

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]

    def dtype(self) -> np.dtype:
        """Return the real dtype; only plain numbers are allowed."""
        if not re.fullmatch("[biuf][1248]", self.text) or self.order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"Unsupported global: dtype {self.text}")
        return np.dtype(self.order + self.text)


class _PickledArray:
    """Stands in for ``numpy.ndarray``: records the parts of an array that the file gives."""

    def __init__(self, *_: object) -> None:
        self.parts: tuple = ()

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, data = state
        self.parts = shape, dtype, is_fortran, data

    @classmethod
    def scalar(cls, dtype: _PickledDtype, data: bytes | str) -> "_PickledArray":
        """Stand in for numpy's constructor of scalars."""
        array = cls()
        array.parts = (), dtype, False, data
        return array

    @classmethod
    def from_buffer(
        cls, data: bytes, dtype: _PickledDtype, shape: tuple, order: str
    ) -> "_PickledArray":
        """Stand in for numpy's constructor in pickles of protocol 5."""
        array = cls()
        array.parts = shape, dtype, order == "F", data
        return array

    def array(self) -> np.ndarray:
        """Return the real array; numpy checks that the number of bytes matches the shape."""
        shape, dtype, is_fortran, data = self.parts
        data = data.encode("latin1") if isinstance(data, str) else bytes(data)
        array = np.frombuffer(data, dtype.dtype())
        return array.reshape(shape, order="F" if is_fortran else "C").copy()


class _WeightsUnpickler(pickle.Unpickler):
    """Reads numpy arrays in plain containers, which is what detectron2's .pkl files hold.

    numpy constructors never receive data from the file: with crafted arguments they can access
    arbitrary memory.
    """

    _NUMPY = {  # noqa: RUF012
        "_reconstruct": _PickledArray,
        "_frombuffer": _PickledArray.from_buffer,
        "scalar": _PickledArray.scalar,
        "ndarray": _PickledArray,
        "dtype": _PickledDtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Allow only what arrays consist of. The names of numpy's modules depend on its version."""
        if module.split(".")[0] == "numpy" and name in self._NUMPY:
            return self._NUMPY[name]
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("_codecs", "encode"):  # bytes that Python 2 wrote
            return lambda text, _: text.encode("latin1")
        if (module, name) in (("builtins", "bytes"), ("__builtin__", "bytes")):  # empty bytes
            return lambda: b""
        raise pickle.UnpicklingError(f"Unsupported global: {module}.{name}")


def _with_arrays(data: Any) -> Any:
    """Replace the stand-ins in unpickled data by real arrays."""
    if isinstance(data, _PickledArray):
        return data.array()
    if isinstance(data, dict):
        return {key: _with_arrays(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return type(data)(map(_with_arrays, data))
    return data


def resolve_path(path: str) -> str:
    """Return the local path of a file or URL; a URL is downloaded once, into a cache.

    Args:
        path: a file or URL. detectron2's option ``?matching_heuristics=True`` is removed.

    Raises:
        CheckpointError: the file does not exist, or the URL cannot be downloaded.
    """
    address, _, query = path.partition("?")
    if urlsplit(address).scheme in ("http", "https"):
        options = [item for item in parse_qsl(query, True) if item[0] != "matching_heuristics"]
        address += f"?{urlencode(options)}" if options else ""
    try:
        local = PathManager.get_local_path(address)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be downloaded ({error}). Download it elsewhere and pass the local file."
        ) from error
    if not os.path.isfile(local):
        raise CheckpointError(f"The file {path} does not exist. Check the path.")
    return local


def load_file(path: str) -> Any:
    """Load what ``torch.save`` or, for a .pkl file, ``pickle.dump`` wrote.

    Only weights and plain data are read; nothing in the file is executed.

    Args:
        path: a local file.

    Raises:
        CheckpointError: the file is damaged, or contains arbitrary Python objects.
    """
    try:
        if path.endswith(".pkl"):
            with open(path, "rb") as file:
                return _with_arrays(_WeightsUnpickler(file, encoding="latin1").load())
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files make the readers raise almost anything
        if re.search("Unsupported (global|class)|is blocked", str(error), re.IGNORECASE):
            raise CheckpointError(
                f"{path} contains arbitrary Python objects. Loading them could run any code, so "
                "the file is rejected. If you trust it, save its weights alone to a new file: "
                'torch.save(torch.load(FILE, weights_only=False)["state_dict"], NEW_FILE)'
            ) from error
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}). It is truncated, or "
            "torch.save did not write it: a failed download can be a web page, for example. "
            "Download or copy it again."
        ) from error


def is_whole(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a checkpoint that can be read completely, by its checksums."""
    try:
        load_file(os.fspath(path))
    except CheckpointError:
        return False
    return True


def peek_file(path: str) -> Any:
    """Read a checkpoint without its tensors."""
    return load_file(path)
