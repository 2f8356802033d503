"""The end of a run: all shards are read once, checked, counted, and joined for COCO's format."""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from .files import replacing, write_file
from .manifest import Manifest
from .rows import Row, to_coco
from .shards import DamagedShardError, ShardFiles

logger = logging.getLogger(__name__)

SUMMARY_FILE = "summary.json"

#: COCO's results, what their image ids mean, and the images without results.
COCO_FILES = ("detections.json", "images.json", "errors.json")


@dataclass
class Summary:
    """What a finished run has found.

    Attributes:
        images: number of images, readable or not.
        errors: number of images that cannot be read.
        detections: number of detections.
        by_class: number of detections by class name, most first.
        fingerprint: of the shards that were counted.
    """

    images: int = 0
    errors: int = 0
    detections: int = 0
    by_class: dict[str, int] = field(default_factory=dict)
    fingerprint: str = ""

    @classmethod
    def read(cls, folder: Path, shards: ShardFiles) -> "Summary | None":
        """Read the summary of a run; None if it is not finished, or shards have changed since."""
        try:
            summary = cls(**json.loads((folder / SUMMARY_FILE).read_bytes()))
            if summary.fingerprint != shards.fingerprint():
                return None
        except (OSError, ValueError, TypeError):
            return None
        is_coco = shards.manifest.settings.format == "coco"
        return summary if not is_coco or _has_coco_files(folder) else None


def finish(folder: Path, manifest: Manifest, shards: ShardFiles) -> Summary | None:
    """Check and count all shards, and write the summary, and the files of COCO's format.

    Args:
        folder: of the run.
        manifest: likewise.
        shards: likewise; all are there.

    Returns:
        None if a shard was damaged. It is removed then, to be done again.

    Raises:
        OutputError: a file cannot be read or written.
    """
    summary, by_class = Summary(fingerprint=shards.fingerprint()), Counter[str]()
    damaged: list[int] = []
    is_coco = manifest.settings.format == "coco"
    try:
        with _coco_writer(folder, manifest) if is_coco else _no_writer() as write:
            for shard, rows in shards.read_all():
                if isinstance(rows, DamagedShardError):
                    logger.warning(
                        "%s is damaged (%s) and is done again.", shards.path(shard), rows
                    )
                    damaged.append(shard)
                    continue
                write(rows)
                summary.images += len(rows)
                for row in rows:
                    summary.errors += row["error"] is not None
                    by_class.update(row["class_name"] or ())
            if damaged:
                raise _IncompleteError
    except _IncompleteError:
        for shard in damaged:
            shards.remove(shard)
        return None
    summary.by_class = dict(by_class.most_common())
    summary.detections = sum(by_class.values())
    write_file(folder / SUMMARY_FILE, (json.dumps(asdict(summary), indent=1) + "\n").encode())
    return summary


def remove_errors(shards: ShardFiles) -> int:
    """Remove the shards that have an image with an error, so that they are done again.

    Returns:
        The number of these images.
    """
    count = 0
    for shard in sorted(shards.finished()):
        try:
            errors = sum(row["error"] is not None for row in shards.read(shard))
        except DamagedShardError:
            continue  # finish() finds it
        if errors:
            count += errors
            shards.remove(shard)
    return count


class _IncompleteError(Exception):
    """Keeps files that lack a shard from getting their names."""


class _Writer:
    """Writes the files of COCO's format shard by shard."""

    def __init__(self, files: list[BinaryIO], category_ids: list[int | str]) -> None:
        self._lists = [_JSONList(file) for file in files]
        self._category_ids = category_ids

    def __call__(self, rows: list[Row]) -> None:
        detections, images, errors = self._lists
        good = [row for row in rows if row["error"] is None]
        detections.extend(to_coco(good, self._category_ids))
        images.extend([_image(row, "height", "width") for row in good])
        errors.extend([_image(row, "error") for row in rows if row["error"] is not None])

    def close(self) -> None:
        """End the lists."""
        for items in self._lists:
            items.close()


def _image(row: Row, *columns: str) -> dict[str, Any]:
    return {
        "id": row["image_id"],
        "file_name": row["path"],
        **{name: row[name] for name in columns},
    }


class _JSONList:
    """A list in a JSON file, with a line for the entries of each shard."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._start = b"["

    def extend(self, entries: list[dict[str, Any]]) -> None:
        if entries:
            self._file.write(self._start + b"\n" + json.dumps(entries)[1:-1].encode())
            self._start = b","

    def close(self) -> None:
        self._file.write(b"[]\n" if self._start == b"[" else b"\n]\n")


@contextmanager
def _coco_writer(folder: Path, manifest: Manifest) -> Iterator[_Writer]:
    with ExitStack() as stack:
        files = [stack.enter_context(replacing(folder / name)) for name in COCO_FILES]
        writer = _Writer(files, manifest.settings.category_ids)
        yield writer
        writer.close()


@contextmanager
def _no_writer() -> Iterator[Any]:
    yield lambda rows: None


def _has_coco_files(folder: Path) -> bool:
    return all((folder / name).is_file() for name in COCO_FILES)
