"""What a run in a folder is about. A restart that asks for something else is refused."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..output_files import OutputError
from .files import create_file
from .image_list import ImageList, changes, describe, read_paths, write_image_list
from .listing import ListedImages

logger = logging.getLogger(__name__)

MANIFEST_FILE = "manifest.json"

_VERSION = 2


@dataclass(frozen=True)
class RunSettings:
    """What the results depend on.

    Attributes:
        sources: as absolute paths.
        image_folder: of a COCO file; likewise.
        format: of the results, "parquet" or "coco".
        shard_size: images in a shard.
        model: digests of the weights and of the config, by what they are of.
        options: of :meth:`ImageDetector.predict`, such as ``score_threshold``.
        class_names: by class index.
        category_ids: ids in COCO-format files, by class index.
        batch_size: images that the network gets at once. Another one changes results by rounding
            only, as another device does, so a restart may have it.
        software: versions by name; another one is logged.
        working_directory: that relative paths start from.
    """

    sources: list[str]
    image_folder: str | None
    format: str
    shard_size: int
    model: dict[str, str]
    options: dict[str, Any]
    class_names: list[str]
    category_ids: list[int | str]
    batch_size: int
    software: dict[str, str]
    working_directory: str


# What a restart must not change, and what to call it.
_FIXED = {
    "sources": "sources",
    "image_folder": "--images",
    "format": "--format",
    "shard_size": "--shard-size",
    "model": "model",
    "options": "options",
    "class_names": "class names",
    "category_ids": "category ids",
}


@dataclass(frozen=True)
class Manifest:
    """The content of the manifest.

    Attributes:
        settings: what the results depend on.
        images: the list of images.
        version: of the format of the folder.
    """

    settings: RunSettings
    images: ImageList
    version: int = _VERSION

    @property
    def tag(self) -> str:
        """Stands in each shard, so that those of another run are not taken for this one's."""
        content = {name: getattr(self.settings, name) for name in _FIXED}
        text = json.dumps([content, self.images.sha256, self.version], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """The text of the file."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def read(cls, folder: Path) -> "Manifest | None":
        """Read the manifest of a folder; None if it has none.

        Raises:
            OutputError: it is damaged, or of another version.
        """
        path = folder / MANIFEST_FILE
        try:
            content = json.loads(path.read_bytes())
            if content["version"] != _VERSION:
                raise OutputError(
                    f"{path} was written by another version of this project. Choose another "
                    "--output folder."
                )
            return cls(RunSettings(**content["settings"]), ImageList(**content["images"]))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OutputError(f"{path} cannot be read: {error.strerror}.") from error
        except (ValueError, TypeError, KeyError) as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(f"{path} is damaged. Choose another --output folder.") from error


def create_manifest(folder: Path, settings: RunSettings, images: ListedImages) -> "Manifest":
    """Write the list of images and the manifest, unless another process was first.

    Raises:
        OutputError: they cannot be written; or the other process has other settings or images.
    """
    listed = write_image_list(images, settings.shard_size, folder)
    manifest = Manifest(settings, listed)
    if create_file(folder / MANIFEST_FILE, manifest.to_json().encode()):
        return manifest
    first = Manifest.read(folder)
    if first is not None and first.images.file != listed.file:
        (folder / listed.file).unlink(missing_ok=True)
    validate_settings(folder, first or manifest, settings)
    validate_images(folder, first or manifest, images)
    return first or manifest


def validate_settings(folder: Path, manifest: Manifest, settings: RunSettings) -> None:
    """Check that a run may go on in a folder.

    Raises:
        OutputError: it has other settings; the message names them.
    """
    there = manifest.settings
    different = [
        f"{shown} ({_difference(getattr(there, name), getattr(settings, name))})"
        for name, shown in _FIXED.items()
        if getattr(there, name) != getattr(settings, name)
    ]
    if different:
        raise OutputError(
            f"{folder} has results of a run with other settings: {'; '.join(different)}. Choose "
            "another --output folder, or run the command that was started there."
        )
    for what, before, now in (
        ("--batch-size", there.batch_size, settings.batch_size),
        ("versions", there.software, settings.software),
    ):
        if before != now:
            logger.warning(
                "%s has results of other %s (%s). Results of further images may differ by "
                "rounding%s.",
                folder,
                what,
                _difference(before, now),
                "" if what == "--batch-size" else ", or more",
            )


def validate_images(folder: Path, manifest: Manifest, images: ListedImages) -> None:
    """Check that the sources still name the images that they named when the run was started.

    Raises:
        OutputError: they do not.
    """
    listed = manifest.images
    if describe(images, listed.shard_size).sha256 != listed.sha256:
        raise OutputError(
            f"The sources name other images than when the run in {folder} was started: "
            f"{changes(read_paths(listed, folder), images.paths)}. Choose another --output folder "
            "for them, or finish the original list with --as-listed."
        )


def _difference(there: object, here: object) -> str:
    """Say what is different; of dictionaries, the entries that are."""
    if isinstance(there, dict) and isinstance(here, dict):
        keys = [key for key in {**there, **here} if there.get(key) != here.get(key)]
        return ", ".join(f"{key}: {_difference(there.get(key), here.get(key))}" for key in keys)
    return f"{_short(there)} there, {_short(here)} here"


def _short(value: object) -> str:
    if isinstance(value, str) and len(value) == 64:  # a digest
        return value[:12]
    text = ", ".join(map(str, value)) if isinstance(value, Sequence) and value else str(value)
    text = value if isinstance(value, str) else text
    return text if len(text) <= 100 else f"{text[:100]}..."
