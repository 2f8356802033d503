"""Read the zip files of ``torch.save``, with the checksum of every record."""

import logging
import struct
import zipfile
import zlib
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from .refs import StorageRef

logger = logging.getLogger(__name__)

_CHUNK = 1 << 22
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_UTF8 = 0x800
_ENCRYPTED = 0x1


class CheckpointZip:
    """A zip file that ``torch.save`` wrote.

    Its records are stored uncompressed, so that they cannot be larger than the file. Each has a
    CRC-32, which PyTorch itself does not verify.

    Args:
        file: open for reading.
        path: of the file, for messages.

    Raises:
        ValueError: it is damaged, or ``torch.save`` did not write it. So do the methods.
    """

    def __init__(self, file: BinaryIO, path: str) -> None:
        self._file = file
        self._size = file.seek(0, 2)
        records = zipfile.ZipFile(file).infolist()
        names = [record.orig_filename for record in records]
        roots = [name.removesuffix("/data.pkl") for name in names if name.endswith("/data.pkl")]
        roots = [root for root in roots if "/" not in root]
        if len(roots) != 1:
            raise ValueError("it has no record data.pkl")
        if len(set(names)) != len(names):
            raise ValueError("a record occurs twice")
        for record in records:
            if record.compress_type != zipfile.ZIP_STORED or record.flag_bits & _ENCRYPTED:
                raise ValueError("its records are compressed, which torch.save never does")
            if record.compress_size != record.file_size:
                raise ValueError("the size of a record is damaged")
        if sum(record.file_size for record in records) > self._size:
            raise ValueError("its records are larger than the file")
        self._records = dict(zip(names, records, strict=True))
        self._root = roots[0]
        self._verified: set[str] = set()
        self._has_checksums = any(record.CRC for record in records)
        if not self._has_checksums:
            logger.warning(
                "%s was written without checksums, so damage in it cannot be noticed.", path
            )

    def read(self, name: str) -> bytes:
        """Read a record, such as ``data.pkl``."""
        buffer = bytearray(self._record(name).file_size)
        self._read_into(self._record(name), memoryview(buffer))
        return bytes(buffer)

    def has(self, name: str) -> bool:
        """Whether there is a record of this name."""
        return f"{self._root}/{name}" in self._records

    def validate_storage(self, ref: StorageRef) -> None:
        """Check that a storage has a record of its size."""
        itemsize = 1 if ref.dtype is None else ref.dtype.itemsize
        if self._record(f"data/{ref.key}").file_size != ref.numel * itemsize:
            raise ValueError("a tensor has another size than its record")

    def read_storage(self, ref: StorageRef) -> Tensor:
        """Read the memory of tensors: (bytes,) uint8."""
        self.validate_storage(ref)
        record = self._record(f"data/{ref.key}")
        memory = torch.empty(record.file_size, dtype=torch.uint8)
        self._read_into(record, np.asarray(memory).data)
        return memory

    def verify_all(self) -> None:
        """Verify the checksums of the records that were not read yet."""
        for name, record in self._records.items():
            if name not in self._verified:
                self._read_into(record, None)

    def _record(self, name: str) -> zipfile.ZipInfo:
        record = self._records.get(f"{self._root}/{name}")
        if record is None:
            raise ValueError(f"its record {name} is missing")
        return record

    def _read_into(self, record: zipfile.ZipInfo, target: memoryview | None) -> None:
        """Read a record, or only verify it, in one pass."""
        self._file.seek(self._data_offset(record))
        checksum, done = 0, 0
        scratch = memoryview(bytearray(min(_CHUNK, record.file_size))) if target is None else None
        while done < record.file_size:
            step = min(_CHUNK, record.file_size - done)
            part = scratch[:step] if scratch is not None else target[done : done + step]  # type: ignore[index]
            count = self._file.readinto(part)  # type: ignore[attr-defined]
            if not count:
                raise ValueError("its end is missing")
            checksum = zlib.crc32(part[:count], checksum)
            done += count
        if self._has_checksums and checksum != record.CRC:
            raise ValueError(f"the checksum of its record {record.orig_filename} does not match")
        self._verified.add(record.orig_filename)

    def _data_offset(self, record: zipfile.ZipInfo) -> int:
        """Where the content of a record begins, after a second header that must agree."""
        self._file.seek(record.header_offset)
        header = self._file.read(_LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size:
            raise ValueError("a header is missing")
        magic, _, flags, method, *_, name_size, extra_size = _LOCAL_HEADER.unpack(header)
        name = self._file.read(name_size)
        encoding = "utf-8" if flags & _UTF8 else "cp437"
        if magic != b"PK\x03\x04" or method or name.decode(encoding) != record.orig_filename:
            raise ValueError("the headers of a record differ")
        return record.header_offset + _LOCAL_HEADER.size + name_size + extra_size
