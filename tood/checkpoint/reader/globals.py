"""What a pickled checkpoint may refer to, and what takes the place of it.

Nothing of PyTorch or NumPy gets data from a file before its sizes are checked: with crafted
arguments, their constructors can allocate any amount of memory or access that of others.
"""

from collections import OrderedDict
from typing import Any

import torch

from .refs import (
    ArrayRef,
    Constructor,
    DtypeRef,
    StorageRef,
    StorageType,
    TensorClass,
    TensorRef,
    UnsafeGlobalError,
    UnsupportedTensor,
    is_size,
    product,
)


def find_global(module: str, name: str) -> Any:
    """Return the stand-in of an object.

    Raises:
        UnsafeGlobalError: there is none.
    """
    # The names of numpy's modules depend on its version.
    key = "numpy" if module.split(".")[0] == "numpy" else module.replace("__builtin__", "builtins")
    if (key, name) in _GLOBALS:
        return _GLOBALS[key, name]
    if key == "torch" or key.startswith("torch."):
        value = getattr(torch, name, None) if key == "torch" else None
        if isinstance(value, torch.dtype):
            return value
        if name.endswith("Storage"):
            return StorageType(_STORAGE_DTYPES.get(name.removesuffix("Storage")))
        if isinstance(value, torch.qscheme):
            return None
    raise UnsafeGlobalError(f"{module}.{name}")


_STORAGE_DTYPES = {
    "Float": torch.float32,
    "Double": torch.float64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
}
_DTYPES = {
    *_STORAGE_DTYPES.values(),
    *(getattr(torch, name) for name in ("uint16", "uint32", "uint64")),
}


def _tensor(
    storage: Any, offset: Any, size: Any, stride: Any, dtype: Any, metadata: Any = None
) -> TensorRef | UnsupportedTensor:
    """Check that a tensor lies within its storage."""
    if not isinstance(storage, StorageRef) or not is_size(offset):
        raise ValueError("a tensor is damaged")
    size, stride = tuple(size), tuple(stride)
    if len(size) != len(stride) or len(size) > 64 or not all(map(is_size, (*size, *stride))):
        raise ValueError("the shape of a tensor is damaged")
    if not isinstance(dtype, torch.dtype) or dtype not in _DTYPES:
        return UnsupportedTensor(str(dtype).removeprefix("torch.") if dtype else "quantized")
    if metadata:
        return UnsupportedTensor("conjugated or negated")
    itemsize = 1 if storage.dtype is None else storage.dtype.itemsize
    available = storage.numel * itemsize // dtype.itemsize
    numel = product(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if numel and last >= available:
        raise ValueError("a tensor is larger than its storage")
    if numel > available:
        return UnsupportedTensor("expanded (stride 0)")
    return TensorRef(storage, dtype, offset, size, stride)


def _tensor_v2(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, metadata: Any = None
) -> TensorRef | UnsupportedTensor:
    return _tensor(storage, offset, size, stride, getattr(storage, "dtype", None), metadata)


def _tensor_v3(
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    grad: Any,
    hooks: Any,
    dtype: Any,
    metadata: Any = None,
) -> TensorRef | UnsupportedTensor:
    return _tensor(storage, offset, size, stride, dtype, metadata)


def _subclass(function: Any, kind: Any, arguments: Any, state: Any) -> Any:
    """A tensor with attributes of its own, which are dropped."""
    if not isinstance(function, Constructor) or not isinstance(arguments, tuple):
        raise ValueError("a tensor is damaged")
    if not isinstance(kind, TensorClass):
        raise ValueError("a tensor is damaged")
    return function.build(*arguments)


def _text_to_bytes(*arguments: Any) -> bytes:
    """Bytes as protocol 2 writes them: Latin-1 text, or nothing."""
    if not arguments:
        return b""
    value, *encoding = arguments
    if isinstance(value, str) and (encoding or ["latin1"])[0] in ("latin1", "latin-1"):
        return value.encode("latin1")
    if isinstance(value, bytes | bytearray) and not encoding:
        return bytes(value)
    raise ValueError("bytes are damaged")


def _ordered_dict(items: Any = ()) -> OrderedDict[Any, Any]:
    return OrderedDict((_hashable(key), value) for key, value in items)


def _hashable(key: Any) -> Any:
    if not isinstance(key, str | int | float | bytes | None):
        raise ValueError("a key is damaged")
    return key


def _counter(items: Any = None) -> dict[Any, Any]:
    if not isinstance(items, dict | None):
        raise ValueError("a counter is damaged")
    return dict(items or {})


def _size(sizes: Any = ()) -> tuple[int, ...]:
    sizes = tuple(sizes)
    if not all(map(is_size, sizes)):
        raise ValueError("a size is damaged")
    return torch.Size(sizes)


def _device(kind: Any, index: Any = None) -> torch.device:
    if not isinstance(kind, str) or not isinstance(index, int | None):
        raise ValueError("a device is damaged")
    return torch.device(kind) if index is None else torch.device(kind, index)


def _complex(real: Any, imaginary: Any) -> complex:
    return complex(float(real), float(imaginary))


def _unsupported(kind: str) -> Constructor:
    return Constructor(lambda *_: UnsupportedTensor(kind))


def _key_set(items: Any = ()) -> set[Any]:
    return set(map(_hashable, items))


def _dtype(text: Any, *_: Any) -> DtypeRef:
    return DtypeRef(str(text))


def _scalar(dtype: Any, data: Any) -> ArrayRef:
    return ArrayRef((), dtype, False, data)


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> ArrayRef:
    """Numpy's constructor in pickles of protocol 5."""
    return ArrayRef(shape, dtype, order == "F", data)


_UTILS = "torch._utils"
_ALLOWED_CLASSES = (("torch.nn.parameter", "Parameter"), ("torch", "Tensor"))
_UNSUPPORTED = {
    "_rebuild_sparse_tensor": "sparse",
    "_rebuild_sparse_csr_tensor": "sparse",
    "_rebuild_meta_tensor_no_storage": "meta",
    "_rebuild_nested_tensor": "nested",
    "_rebuild_qtensor": "quantized",
    "_rebuild_wrapper_subclass": "wrapped",
    "_rebuild_device_tensor_from_numpy": "device",
    "_rebuild_device_tensor_from_cpu_tensor": "device",
}
_GLOBALS: dict[tuple[str, str], Any] = {
    ("numpy", "_reconstruct"): Constructor(lambda *_: ArrayRef()),
    ("numpy", "_frombuffer"): Constructor(_from_buffer),
    ("numpy", "scalar"): Constructor(_scalar),
    ("numpy", "ndarray"): Constructor(lambda *_: ArrayRef()),
    ("numpy", "dtype"): Constructor(_dtype),
    ("collections", "OrderedDict"): Constructor(_ordered_dict),
    ("collections", "Counter"): Constructor(_counter),
    ("builtins", "bytes"): Constructor(_text_to_bytes),
    ("builtins", "bytearray"): Constructor(lambda *args: bytearray(_text_to_bytes(*args))),
    ("builtins", "set"): Constructor(_key_set),
    ("builtins", "frozenset"): Constructor(lambda *args: frozenset(_key_set(*args))),
    ("builtins", "complex"): Constructor(_complex),
    ("_codecs", "encode"): Constructor(_text_to_bytes),
    ("torch", "Size"): Constructor(_size),
    ("torch", "device"): Constructor(_device),
    ("torch.serialization", "_get_layout"): Constructor(lambda *_: None),
    ("torch._tensor", "_rebuild_from_type_v2"): Constructor(_subclass),
    (_UTILS, "_rebuild_tensor"): Constructor(
        lambda storage, offset, size, stride: _tensor_v2(storage, offset, size, stride, None, None)
    ),
    (_UTILS, "_rebuild_tensor_v2"): Constructor(_tensor_v2),
    (_UTILS, "_rebuild_tensor_v3"): Constructor(_tensor_v3),
    (_UTILS, "_rebuild_parameter"): Constructor(lambda data, *_: data),
    (_UTILS, "_rebuild_parameter_with_state"): Constructor(lambda data, *_: data),
    **{key: TensorClass(*key) for key in _ALLOWED_CLASSES},
    **{(_UTILS, name): _unsupported(kind) for name, kind in _UNSUPPORTED.items()},
}
