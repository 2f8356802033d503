"""Which files are exported models, and what they say about their model, without their runtime.

A config or a class name is read in a moment, also from a file whose runtime is not installed.
"""

import os
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from .backends.base import find_file
from .image_io import printable_path
from .model_info import ModelFileError, ModelInfo

# Fields of ONNX's ModelProto and StringStringEntryProto (onnx.proto).
_METADATA_PROPS, _KEY, _VALUE = 14, 1, 2
# Wire types of protobuf.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# Far more than the text of a config and the names of a hundred thousand classes.
_MAX_TEXT = 20_000_000
# Folders of the extra files in archives of torch.jit.save and torch.export.save.
_EXTRA_FOLDERS = ("extra", "extra_files")


def is_model_file(path: object) -> bool:
    """Whether this is the path of an exported model, by its suffix; it need not exist."""
    return isinstance(path, (str, os.PathLike)) and Path(path).suffix.lower() in _READERS


def read_model_info(path: str | os.PathLike[str]) -> ModelInfo:
    """Read what an exported model says about itself.

    Args:
        path: an ONNX (.onnx), OpenVINO (.xml), TorchScript (.torchscript, .ts) or torch.export
            (.pt2) file.

    Raises:
        ModelFileError: the file is missing, damaged, of another kind, or has no metadata of ours.
    """
    file = find_file(path)
    name = printable_path(file)
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise ModelFileError(f"{name} is no exported model. Available: {', '.join(_READERS)}.")
    try:
        texts = reader(file)
    except Exception as error:  # damaged files make the readers raise almost anything
        if isinstance(error, OSError) and error.filename is not None:  # it cannot be opened
            raise ModelFileError(f"{name} cannot be read: {error.strerror}.") from error
        raise ModelFileError(
            f"{name} is damaged, or of another kind than its name says. Export it again."
        ) from error
    return ModelInfo.from_strings(texts, name)


def _read_onnx(path: Path) -> dict[str, str]:
    """The ``metadata_props`` of an ONNX file; weights and graph are skipped."""
    texts: dict[str, str] = {}
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            raise ValueError("empty")
        for field, start, length in _protobuf_fields(file, size):
            if field == _METADATA_PROPS:
                key, value = _read_entry(file, start, length)
                texts[key] = value
    return texts


def _read_entry(file: BinaryIO, start: int, length: int) -> tuple[str, str]:
    """A key and its value, both UTF-8."""
    texts = {_KEY: "", _VALUE: ""}
    file.seek(start)
    for field, begin, size in _protobuf_fields(file, start + length):
        if field in texts:
            file.seek(begin)
            _require_small(size)
            texts[field] = file.read(size).decode("utf-8")
    return texts[_KEY], texts[_VALUE]


def _protobuf_fields(file: BinaryIO, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, position and length of each field from the file's position to ``end``.

    Raises:
        ValueError: this is no protobuf message, or it is cut off.
    """
    position = file.tell()
    while position < end:
        file.seek(position)
        number, wire = divmod(_read_varint(file), 8)
        length = 0
        if wire == _VARINT:
            _read_varint(file)
        elif wire == _BYTES:
            length = _read_varint(file)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError("unknown wire type")
        start = file.tell()
        position = start + length
        if not number or position > end:
            raise ValueError("cut off")
        yield number, start, length


def _read_varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("cut off")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("a number is too long")


def _read_openvino(path: Path) -> dict[str, str]:
    """The ``rt_info`` of an OpenVINO file under "tood"."""
    root = ElementTree.parse(path).getroot()
    return {entry.tag: entry.get("value", "") for entry in root.findall("rt_info/tood/*")}


def _read_archive(path: Path) -> dict[str, str]:
    """The extra files of a TorchScript or torch.export file."""
    with zipfile.ZipFile(path) as archive:
        records = [
            record
            for record in archive.infolist()
            if PurePosixPath(record.filename).parent.name in _EXTRA_FOLDERS
        ]
        _require_small(sum(record.file_size for record in records))
        return {
            PurePosixPath(record.filename).name: archive.read(record).decode("utf-8")
            for record in records
        }


def _require_small(size: int) -> None:
    """Refuse metadata that would fill the memory, such as gigabytes of compressed zeros."""
    if size > _MAX_TEXT:
        raise ValueError("too long")


_READERS: dict[str, Callable[[Path], dict[str, str]]] = {
    ".onnx": _read_onnx,
    ".xml": _read_openvino,
    ".torchscript": _read_archive,
    ".ts": _read_archive,
    ".pt2": _read_archive,
}
