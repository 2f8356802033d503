"""Stand-ins for what a pickled checkpoint refers to: descriptions, not yet objects."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


class UnsafeGlobalError(ValueError):
    """A file refers to an object that no checkpoint needs and that could run code."""


@dataclass(frozen=True)
class Constructor:
    """Something that a pickle may call: ``build`` replaces it."""

    build: Callable[..., Any]


@dataclass(frozen=True)
class TensorClass:
    """``torch.Tensor`` or ``torch.nn.Parameter``, as an argument only."""

    module: str
    name: str


@dataclass(frozen=True)
class StorageType:
    """The type of a storage; ``dtype`` is None if it is given in bytes or not supported."""

    dtype: torch.dtype | None


@dataclass(frozen=True)
class StorageRef:
    """The memory of tensors, which another part of the file holds.

    Attributes:
        key: of that part.
        dtype: of its elements; None for bytes.
        numel: number of elements.
    """

    key: str
    dtype: torch.dtype | None
    numel: int


@dataclass(frozen=True)
class TensorRef:
    """A tensor before its memory is read."""

    storage: StorageRef
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class UnsupportedTensor:
    """Stands in for a tensor that is not dense; ``kind`` says what it is."""

    kind: str


@dataclass
class DtypeRef:
    """Stands in for ``numpy.dtype``."""

    text: str
    order: str = "="

    def set_pickled_state(self, state: Any) -> None:
        """Take the byte order from what numpy pickled."""
        self.order = state[1]

    def dtype(self) -> np.dtype:
        """Return the real dtype; only plain numbers are allowed."""
        if not re.fullmatch("[biuf][1248]", self.text) or self.order not in ("<", ">", "|", "="):
            raise UnsafeGlobalError(f"dtype {self.text}")
        return np.dtype(self.order + self.text)


@dataclass
class ArrayRef:
    """Stands in for ``numpy.ndarray``: the parts of an array that the file gives."""

    shape: Any = ()
    dtype: Any = None
    is_fortran: Any = False
    data: Any = b""

    def set_pickled_state(self, state: Any) -> None:
        """Take what numpy pickled."""
        _, self.shape, self.dtype, self.is_fortran, self.data = state

    def array(self, max_bytes: int) -> np.ndarray:
        """Return the real array, if the data has the size that shape and type need."""
        shape, data = tuple(self.shape), self.data
        if not isinstance(self.dtype, DtypeRef) or not isinstance(data, bytes | bytearray | str):
            raise ValueError("an array is damaged")
        dtype = self.dtype.dtype()
        if not all(is_size(side) for side in shape) or len(shape) > 32:
            raise ValueError("the shape of an array is damaged")
        if isinstance(data, str):  # Python 2
            data = data.encode("latin1")
        count = product(shape)
        if len(data) != count * dtype.itemsize or len(data) > max_bytes:
            raise ValueError("the size of an array is damaged")
        array = np.frombuffer(data, dtype).reshape(shape, order="F" if self.is_fortran else "C")
        return array.copy()


def is_size(value: object) -> bool:
    """Whether a value can be a size, stride or offset."""
    return type(value) is int and 0 <= value < 2**62


def product(sizes: Iterable[int]) -> int:
    """The product of sizes; 1 without any."""
    result = 1
    for size in sizes:
        result *= size
    return result
