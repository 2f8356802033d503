"""Turn the stand-ins of an unpickled checkpoint into tensors and arrays."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .refs import ArrayRef, DtypeRef, StorageRef, TensorRef, UnsupportedTensor

# Real checkpoints have fewer than 20 levels.
_MAX_DEPTH = 100


class Materializer:
    """Builds plain data, tensors and arrays.

    Args:
        read_storage: returns the memory of a storage as a (bytes,) uint8 tensor; None leaves
            tensors and arrays out (as None).
        max_bytes: that the arrays may have together: the size of the file.
    """

    def __init__(self, read_storage: Callable[[StorageRef], Tensor] | None, max_bytes: int) -> None:
        self._read_storage = read_storage
        self._bytes_left = max_bytes
        self._built: dict[int, Any] = {}
        self._open: set[int] = set()
        self._memories: dict[str, Tensor] = {}

    def build(self, value: Any, depth: int = 0) -> Any:
        """Build a value. What occurs several times is built once.

        Raises:
            ValueError: the data contains itself, is nested too deeply, or is damaged.
        """
        if isinstance(value, str | int | float | bytes | None):
            return value
        if isinstance(value, ArrayRef | TensorRef | DtypeRef | StorageRef):
            return self._once(value, self._build_leaf)
        if not isinstance(value, dict | list | tuple) or isinstance(value, torch.Size):
            return value
        if depth > _MAX_DEPTH:
            raise ValueError(f"it is nested more than {_MAX_DEPTH} levels deep")
        if id(value) in self._open:
            raise ValueError("it contains itself")
        self._open.add(id(value))
        result = self._once(value, lambda container: self._build_container(container, depth + 1))
        self._open.discard(id(value))
        return result

    def _once(self, value: Any, build: Callable[[Any], Any]) -> Any:
        if id(value) not in self._built:
            self._built[id(value)] = build(value)
        return self._built[id(value)]

    def _build_container(self, value: Any, depth: int) -> Any:
        if isinstance(value, dict):
            kind = OrderedDict if isinstance(value, OrderedDict) else dict
            return kind((key, self.build(item, depth)) for key, item in value.items())
        return type(value)(self.build(item, depth) for item in value)

    def _build_leaf(self, value: Any) -> Any:
        if isinstance(value, TensorRef):
            return self._build_tensor(value)
        if isinstance(value, ArrayRef):
            if self._read_storage is None:
                return None
            array = value.array(self._bytes_left)
            self._bytes_left -= array.nbytes
            return array
        return UnsupportedTensor(type(value).__name__)  # a type or memory on its own

    def _build_tensor(self, ref: TensorRef) -> Tensor | None:
        if self._read_storage is None:
            return None
        key = ref.storage.key
        if key not in self._memories:  # tensors that share memory still do
            self._memories[key] = self._read_storage(ref.storage)
        storage = self._memories[key].untyped_storage()
        return torch.empty(0, dtype=ref.dtype).set_(storage, ref.offset, ref.size, ref.stride)
