"""The files of finished shards: Parquet, or lines of JSON from which COCO files are made."""

import json
import logging
import os
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from ..output_files import OutputError
from .files import write_file
from .manifest import Manifest
from .rows import COLUMNS, Row, import_pyarrow, to_columns, to_table

logger = logging.getLogger(__name__)

FORMATS = ("parquet", "coco")

_FOLDER = "shards"


class DamagedShardError(ValueError):
    """A file of a shard that is not as it was written; the message says what is wrong."""


class ShardFiles:
    """The shards of a run in its folder.

    Args:
        folder: of the run.
        manifest: of the run.

    Attributes:
        folder: of the shards.
        manifest: likewise.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder / _FOLDER
        self.manifest = manifest
        self._codec: _Codec = _ParquetCodec() if manifest.settings.format == "parquet" else _JSON()

    def path(self, shard: int) -> Path:
        """The file of a shard, whether it exists or not."""
        return self.folder / f"shard-{shard:06d}{self._codec.suffix}"

    def exists(self, shard: int) -> bool:
        """Whether a shard is finished."""
        try:  # opened, because network file systems answer other questions from memory
            os.close(os.open(self.path(shard), os.O_RDONLY))
            return True
        except FileNotFoundError:
            return False
        except OSError as error:
            raise OutputError(f"{self.path(shard)} cannot be read: {error.strerror}.") from error

    def finished(self) -> set[int]:
        """The indices of all shards that are finished."""
        names = {entry.name for entry in os.scandir(self.folder)}
        shards = range(self.manifest.images.num_shards)
        return {shard for shard in shards if self.path(shard).name in names}

    def write(self, shard: int, rows: list[Row]) -> None:
        """Write a shard, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        path = self.path(shard)
        write_file(path, self._codec.encode(rows, self._tag(shard)))

    def read(self, shard: int) -> list[Row]:
        """Read a shard, and check that it is as it was written.

        Raises:
            DamagedShardError: it is not, or belongs to another run.
            OutputError: the system cannot read it.
        """
        path = self.path(shard)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise DamagedShardError("it was removed") from error
        except OSError as error:
            raise OutputError(f"{path} cannot be read: {error.strerror}.") from error
        rows, tag = self._codec.decode(data)
        if tag != self._tag(shard):
            raise DamagedShardError("it belongs to another run")
        expected = self.manifest.images.size_of(shard)
        if len(rows) != expected:
            raise DamagedShardError(f"it has {len(rows)} images instead of {expected}")
        return rows

    def read_all(self) -> Iterator[tuple[int, list[Row] | DamagedShardError]]:
        """Read all shards in order, one at a time."""
        for shard in range(self.manifest.images.num_shards):
            try:
                yield shard, self.read(shard)
            except DamagedShardError as error:
                yield shard, error

    def remove(self, shard: int) -> None:
        """Remove a shard, so that it is done again."""
        self.path(shard).unlink(missing_ok=True)

    def fingerprint(self) -> str:
        """Changes when a shard is replaced or changed; needs no reading."""
        paths = [self.path(i) for i in range(self.manifest.images.num_shards)]
        stats = [os.stat(path) if path.exists() else None for path in paths]
        text = json.dumps([stat and (stat.st_size, stat.st_mtime_ns) for stat in stats])
        return f"{zlib.crc32(text.encode()):08x}"

    def _tag(self, shard: int) -> str:
        return f"{self.manifest.tag}/{shard}"


class _Codec(ABC):
    """Rows to bytes and back, with a tag and a checksum."""

    suffix: str

    @abstractmethod
    def encode(self, rows: list[Row], tag: str) -> bytes:
        """The content of a file."""

    @abstractmethod
    def decode(self, data: bytes) -> tuple[list[Row], str]:
        """The rows and the tag of a file.

        Raises:
            DamagedShardError: it is not as it was written.
        """


class _JSON(_Codec):
    """A line for each image, and a last line with the tag and the checksum of what is before it."""

    suffix = ".jsonl"

    def encode(self, rows: list[Row], tag: str) -> bytes:
        body = "".join(json.dumps([row[name] for name in COLUMNS]) + "\n" for row in rows).encode()
        return body + json.dumps({"tag": tag, "crc32": zlib.crc32(body)}).encode() + b"\n"

    def decode(self, data: bytes) -> tuple[list[Row], str]:
        body, _, end = data.removesuffix(b"\n").rpartition(b"\n")
        body += b"\n" if body else b""
        try:
            content = json.loads(end)
            tag, checksum = content["tag"], content["crc32"]
        except (ValueError, TypeError, KeyError) as error:
            raise DamagedShardError("its end is missing") from error
        if zlib.crc32(body) != checksum:
            raise DamagedShardError("its checksum is wrong")
        lines = map(json.loads, body.splitlines())
        return [dict(zip(COLUMNS, values, strict=True)) for values in lines], str(tag)


class _ParquetCodec(_Codec):
    """Parquet with a checksum of each page, and the tag among the metadata of the schema."""

    suffix = ".parquet"

    def encode(self, rows: list[Row], tag: str) -> bytes:
        parquet = import_pyarrow("pyarrow.parquet")
        table = to_table(to_columns(rows)).replace_schema_metadata({"tood": tag})
        buffer = BytesIO()
        parquet.write_table(table, buffer, compression="zstd", write_page_checksum=True)
        return buffer.getvalue()

    def decode(self, data: bytes) -> tuple[list[Row], str]:
        parquet = import_pyarrow("pyarrow.parquet")
        try:
            file = parquet.ParquetFile(BytesIO(data), page_checksum_verification=True)
            table: Any = file.read()
        except (OSError, ValueError) as error:  # Arrow's errors are one or the other
            raise DamagedShardError(f"Parquet cannot read it ({_first_line(error)})") from error
        tag = (table.schema.metadata or {}).get(b"tood", b"").decode("utf-8", "replace")
        if table.column_names != list(COLUMNS):
            raise DamagedShardError("it has other columns")
        return table.to_pylist(), tag


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
