"""The list of a data set's images in a file, of which each process reads one shard at a time."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..image_io import printable_path
from ..output_files import OutputError
from .batch_detector import ImageRecord
from .files import replacing
from .listing import ListedImages


@dataclass(frozen=True)
class ImageList:
    """Where the list is, and how it is cut into shards.

    Attributes:
        file: name of the file: a line of JSON for each image, its path and id.
        sha256: of its content.
        num_images: number of its lines.
        shard_size: images of a shard; the last one may have fewer.
        offsets: where each shard begins, in bytes; and the size of the file.
    """

    file: str
    sha256: str
    num_images: int
    shard_size: int
    offsets: list[int]

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        return len(self.offsets) - 1

    def size_of(self, shard: int) -> int:
        """Number of images in a shard."""
        return min(self.shard_size, self.num_images - shard * self.shard_size)

    def read_shard(self, folder: Path, shard: int, working_directory: str) -> list[ImageRecord]:
        """Read the images of a shard.

        Args:
            folder: that the list is in.
            shard: its index.
            working_directory: that relative paths start from.

        Raises:
            OutputError: the list is missing, or is not the one that was written.
        """
        path = folder / self.file
        start, end = self.offsets[shard : shard + 2]
        try:
            with open(path, "rb") as file:
                file.seek(start)
                lines = file.read(end - start).decode("ascii").splitlines()
            entries = [json.loads(line) for line in lines]
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is damaged"
            raise OutputError(
                f"The list of images {path} cannot be read: {reason}. Choose another --output "
                "folder."
            ) from error
        if len(entries) != self.size_of(shard):
            raise OutputError(
                f"The list of images {path} was changed. Choose another --output folder."
            )
        return [
            ImageRecord(printable_path(name), image_id, os.path.join(working_directory, name))
            for name, image_id in entries
        ]


def write_image_list(images: ListedImages, shard_size: int, folder: Path) -> ImageList:
    """Write a list, under a name that depends on its content; see `describe`.

    Raises:
        OutputError: it cannot be written.
    """
    described = describe(images, shard_size)
    with replacing(folder / described.file) as file:
        file.writelines(_lines(images))
    return described


def describe(images: ListedImages, shard_size: int) -> ImageList:
    """What :func:`write_image_list` returns, without writing anything."""
    digest = hashlib.sha256()
    offsets, position = [], 0
    for index, line in enumerate(_lines(images)):
        if index % shard_size == 0:
            offsets.append(position)
        digest.update(line)
        position += len(line)
    name = digest.hexdigest()
    return ImageList(
        f"images-{name[:12]}.jsonl", name, len(images.paths), shard_size, [*offsets, position]
    )


def read_paths(listed: ImageList, folder: Path) -> set[str]:
    """All paths of a list; for a message about what has changed."""
    shards = range(listed.num_shards)
    return {str(record.source) for i in shards for record in listed.read_shard(folder, i, "")}


def changes(before: set[str], now: Sequence[str]) -> str:
    """Say which paths have come and gone."""
    added = [path for path in now if path not in before]
    num_removed = len(before) - (len(now) - len(added))
    if not added and not num_removed:
        return "the same files, but in another order or with other ids"
    example = f" (such as {printable_path(added[0])})" if added else ""
    return f"{len(added)} added{example}, {num_removed} removed"


def _lines(images: ListedImages) -> Iterator[bytes]:
    for path, image_id in zip(images.paths, images.ids, strict=True):
        # ASCII: bytes of a path that are not UTF-8 become escapes, and come back.
        yield json.dumps([path, image_id]).encode("ascii") + b"\n"
