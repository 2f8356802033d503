"""Read checkpoint files without executing anything in them.

What a file is, is told by its first bytes. Files of ``torch.save`` are verified by their checksums.
"""

import io
import os
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, urlencode, urlsplit

import numpy as np
import torch
from detectron2.utils.file_io import Detectron2Handler, PathManager
from iopath.common.file_io import OneDrivePathHandler
from torch import Tensor

from tood_runtime.missing_packages import import_optional
from tood_runtime.model_files import is_model_file

from ..errors import CheckpointError
from .downloading import download
from .reader.kinds import DamagedCheckpointError, FileKind, file_kind
from .reader.machine import PickleError, load_pickle
from .reader.materialize import Materializer
from .reader.refs import StorageRef, StorageType, UnsafeGlobalError, UnsupportedTensor
from .reader.zip_file import CheckpointZip

# The first value in a file of torch.save before PyTorch 1.6, and in what MMDetection published.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
# iopath knows how to download what these links share.
_ONE_DRIVE = OneDrivePathHandler.ONE_DRIVE_PREFIX


def resolve_path(path: str) -> str:
    """Return the local path of a file or URL; a URL is downloaded once, into a cache.

    See :mod:`tood.checkpoint.downloading`.

    Args:
        path: a file or URL, also of detectron2's model zoo (``detectron2://``). detectron2's option
            ``?matching_heuristics=True`` is removed.

    Raises:
        CheckpointError: the file does not exist, or the URL cannot be downloaded.
    """
    address, _, query = path.partition("?")
    if is_model_file(address):
        raise CheckpointError(
            f"{path} is an exported model, which holds no weights to load. tood detect and tood "
            "eval run it as it is; for anything else, name the weights that it was exported from."
        )
    if address.startswith(Detectron2Handler.PREFIX):
        name = address.removeprefix(Detectron2Handler.PREFIX)
        address = Detectron2Handler.S3_DETECTRON2_PREFIX + name
    if urlsplit(address).scheme in ("http", "https") and not address.startswith(_ONE_DRIVE):
        options = [item for item in parse_qsl(query, True) if item[0] != "matching_heuristics"]
        return download(address + (f"?{urlencode(options)}" if options else ""), _require_whole)
    try:
        local = PathManager.get_local_path(address)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be downloaded ({error}). Download it elsewhere and pass the local file."
        ) from error
    if os.path.isdir(local):
        raise CheckpointError(f"{path} is a folder. Name a checkpoint file in it.")
    if os.path.exists(local) and not os.path.isfile(local):
        raise CheckpointError(f"{path} is not a regular file. Name a checkpoint file.")
    if not os.path.isfile(local):
        raise CheckpointError(f"The file {path} does not exist. Check the path.")
    return local


def load_file(path: str) -> Any:
    """Load what ``torch.save``, ``pickle.dump`` or safetensors wrote.

    Only weights and plain data are read; nothing in the file is executed. Tensors that are not
    dense become :class:`~tood.checkpoint.reader.refs.UnsupportedTensor`.

    Args:
        path: a local file.

    Raises:
        DamagedCheckpointError: the file is damaged, or no checkpoint.
        CheckpointError: it contains arbitrary Python objects.
    """
    return _read(path, with_tensors=True)


def peek_file(path: str) -> Any:
    """Read a checkpoint without its tensors and arrays, which become None.

    Args:
        path: a local file.

    Raises:
        CheckpointError: see :func:`load_file`.
    """
    return _read(path, with_tensors=False)


def is_whole(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a checkpoint that can be read completely, by its checksums.

    Args:
        path: a local file.
    """
    try:
        _require_whole(os.fspath(path))
    except CheckpointError:
        return False
    return True


def _require_whole(path: str) -> None:
    """Raise a DamagedCheckpointError for a file that cannot be read completely."""
    if file_kind(path) is not FileKind.ZIP:
        load_file(path)
        return
    peek_file(path)
    try:
        with open(path, "rb", buffering=0) as file:
            CheckpointZip(file, path).verify_all()
    except (OSError, ValueError) as error:
        raise DamagedCheckpointError(f"{path} cannot be read as a checkpoint: {error}.") from error


def _read(path: str, with_tensors: bool) -> Any:
    kind = file_kind(path)
    try:
        if kind is FileKind.SAFETENSORS:
            return _read_safetensors(path)
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if kind is FileKind.ZIP:
                return _read_zip(file, path, size, with_tensors)
            return _read_pickle(file, size, with_tensors)
    except UnsafeGlobalError as error:
        raise CheckpointError(
            f"{path} contains arbitrary Python objects ({str(error)[:80]}). Loading them could run "
            "any code, so the file is rejected. If you trust it, save its weights alone to a new "
            'file: torch.save(torch.load(FILE, weights_only=False)["state_dict"], NEW_FILE)'
        ) from error
    except CheckpointError:
        raise
    except Exception as error:  # damaged files make the readers raise almost anything
        reason = type(error).__name__
        if type(error) in (ValueError, PickleError):
            reason = str(error)[:300]  # libraries quote the file
        raise DamagedCheckpointError(
            f"{path} cannot be read as a checkpoint: {reason}. It is damaged or truncated, or "
            "torch.save did not write it. Download or copy it again."
        ) from error


def _read_zip(file: BinaryIO, path: str, size: int, with_tensors: bool) -> Any:
    archive = CheckpointZip(file, path)
    swap = archive.has("byteorder") and archive.read("byteorder") != sys.byteorder.encode()

    def find_storage(key: Any) -> StorageRef:
        ref = _storage_ref(key)
        archive.validate_storage(ref)
        return ref

    def read_storage(ref: StorageRef) -> Tensor:
        memory = archive.read_storage(ref)
        if swap and ref.dtype is not None:
            memory.untyped_storage().byteswap(ref.dtype)
        return memory

    data = load_pickle(io.BytesIO(archive.read("data.pkl")), find_storage)
    built = Materializer(read_storage if with_tensors else None, size).build(data)
    if with_tensors:
        archive.verify_all()
    return built


def _read_pickle(file: BinaryIO, size: int, with_tensors: bool) -> Any:
    """Read a pickle of arrays, or what ``torch.save`` wrote before PyTorch 1.6."""
    data = load_pickle(file)
    if data != _LEGACY_MAGIC:
        return Materializer(_no_storage if with_tensors else None, size).build(data)
    if load_pickle(file) != _LEGACY_PROTOCOL:
        raise ValueError("its version is not supported")
    system = load_pickle(file)
    if not isinstance(system, Mapping) or system.get("little_endian") is not True:
        raise ValueError("it was written on a big-endian machine")
    storages: dict[str, StorageRef] = {}

    def find_storage(key: Any) -> StorageRef:
        ref = _storage_ref(key)
        whole = storages.setdefault(ref.key, StorageRef(ref.key, ref.dtype, 0))
        if whole.dtype != ref.dtype:
            raise ValueError("a tensor has two types")
        return ref

    data = load_pickle(file, find_storage)
    if not with_tensors:
        return Materializer(None, size).build(data)
    memories = _read_legacy_storages(file, load_pickle(file), storages, size)

    def read_storage(ref: StorageRef) -> Tensor:
        memory = memories[ref.key]
        if memory.numel() < ref.numel * (1 if ref.dtype is None else ref.dtype.itemsize):
            raise ValueError("a tensor is larger than its storage")
        return memory

    return Materializer(read_storage, size).build(data)


def _no_storage(ref: StorageRef) -> Tensor:
    raise ValueError("a tensor has no storage")


def _read_legacy_storages(
    file: BinaryIO, keys: Any, storages: Mapping[str, StorageRef], size: int
) -> dict[str, Tensor]:
    """The memory of each storage: its number of elements as 8 bytes, then the elements."""
    if not isinstance(keys, list) or set(map(str, keys)) != storages.keys():
        raise ValueError("its tensors are not those that it lists")
    memories = {}
    for key in map(str, keys):
        dtype = storages[key].dtype
        numel = int.from_bytes(file.read(8), "little")
        num_bytes = numel * (1 if dtype is None else dtype.itemsize)
        if num_bytes > size - file.tell():
            raise ValueError("its end is missing")
        memory = torch.empty(num_bytes, dtype=torch.uint8)
        if file.readinto(np.asarray(memory).data) != num_bytes:  # type: ignore[attr-defined]
            raise ValueError("its end is missing")
        memories[key] = memory
    return memories


def _storage_ref(key: Any) -> StorageRef:
    """Read a persistent id: ("storage", type, key, device, elements) and in old files the view."""
    if not isinstance(key, tuple) or len(key) not in (5, 6) or key[0] != "storage":
        raise ValueError("a storage is damaged")
    _, kind, name, _, numel = key[:5]
    if not isinstance(kind, StorageType) or type(numel) is not int or not 0 <= numel < 2**62:
        raise ValueError("a storage is damaged")
    if len(key) == 6 and key[5] is not None:
        raise ValueError("it is a view of a storage, from PyTorch before 0.4")
    return StorageRef(str(name), kind.dtype, numel)


def _read_safetensors(path: str) -> dict[str, Any]:
    extra = '"tood-detectron2[safetensors]"'
    safetensors = import_optional("safetensors", path, extra, CheckpointError)
    load_safetensors = import_optional("safetensors.torch", path, extra, CheckpointError).load_file
    try:
        tensors = load_safetensors(path)
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from error
    # Scales of 8-bit floating-point numbers are kept elsewhere, so their values mean nothing alone.
    return {
        name: UnsupportedTensor(str(value.dtype)[6:]) if _is_small_float(value) else value
        for name, value in tensors.items()
    }


def _is_small_float(value: Tensor) -> bool:
    return bool(value.is_floating_point() and value.element_size() < 2)
