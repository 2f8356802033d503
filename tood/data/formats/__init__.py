"""Dataset formats: each has a reader that ends in the normalized form."""

from pathlib import Path

from ...errors import ConfigError, DataError
from ..dataset import DetectionDataset
from . import coco, openimages, voc, yolo  # noqa: F401
from .base import DATASET_FORMAT_REGISTRY, DatasetFormat, DataSource
from .json_file import printable

__all__ = ["DATASET_FORMAT_REGISTRY", "DataSource", "DatasetFormat", "find_format", "read_dataset"]


def read_dataset(source: DataSource, format: str = "auto") -> DetectionDataset:
    """Read a dataset into the normalized form.

    Args:
        source: what to read.
        format: a name of a format, or "auto" to recognize it (``DATASETS.FORMAT``).

    Raises:
        ConfigError: the format is unknown, or keypoints are asked for and not read of this format.
        DataError: it cannot be read; the message names file, entry and fix.
    """
    reader = find_format(source, format)
    if source.num_keypoints and not reader.has_keypoints:
        available = ", ".join(cls.name for _, cls in DATASET_FORMAT_REGISTRY if cls.has_keypoints)
        raise ConfigError(
            f"MODEL.KEYPOINT_ON is True, but {printable(source.annotations, 300)} has the format "
            f"{reader.name!r}, of which keypoints are not read. Available with keypoints: "
            f"{available}. Convert the annotations, or set MODEL.KEYPOINT_ON False."
        )
    return reader.read(source)


def find_format(source: DataSource, format: str = "auto") -> type[DatasetFormat]:
    """Return the format of a dataset.

    Args:
        source: what to read.
        format: see `read_dataset`.

    Raises:
        ConfigError: the format is unknown.
        DataError: the file or folder is missing, or is of no known format.
    """
    formats = {cls.name: cls for _, cls in DATASET_FORMAT_REGISTRY}
    if format in formats:
        return formats[format]
    available = ", ".join(["auto", *formats])
    if format != "auto":
        raise ConfigError(f"Unknown format {format!r} in DATASETS.FORMAT. Available: {available}.")
    path = Path(source.annotations)
    shown = printable(source.annotations, 300)
    try:
        exists = path.exists()
        matching = [cls for cls in formats.values() if exists and cls.matches(path)]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"The annotations {shown} cannot be read: {reason}.") from None
    if not exists:
        raise DataError(f"There is no annotation file {shown}. Check the path.")
    if not matching:
        raise DataError(
            f"{shown} is of no known dataset format. Available for DATASETS.FORMAT: {available}."
        )
    return matching[0]
