"""The interface of dataset formats, and the registry that names them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from detectron2.utils.registry import Registry

from ..dataset import DetectionDataset

DATASET_FORMAT_REGISTRY = Registry("DATASET_FORMAT")
DATASET_FORMAT_REGISTRY.__doc__ = """
Classes derived from :class:`DatasetFormat`, by the name that ``DATASETS.FORMAT`` has for them.
"""


@dataclass(frozen=True)
class DataSource:
    """What a config says about a dataset.

    Attributes:
        annotations: a file or a folder (``DATASETS.{TRAIN,TEST}_ANNOTATIONS``).
        images: the folder of the images; empty for the place that the format itself names.
        split: for formats with several splits: "train", "val" or "test".
        with_masks: the model needs masks, so they are read and checked too.
        apply_exif: images are turned as their EXIF orientation says
            (``INPUT.APPLY_EXIF_ORIENTATION``). Formats without image sizes, or with boxes in
            fractions of them, take the sizes of the turned images then, else of the stored ones.
        num_keypoints: of each object, where the model needs keypoints, so they are read and checked
            too (``MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS``); 0 reads none.
        keep_unreadable: go on where images are missing or unreadable, so that they can be reported
            together. Those whose size nothing else says are left out.
    """

    annotations: str
    images: str = ""
    split: str = "train"
    with_masks: bool = False
    apply_exif: bool = True
    keep_unreadable: bool = False
    num_keypoints: int = 0


class DatasetFormat(ABC):
    """Reads datasets of one format into the normalized form.

    Register a class with ``@DATASET_FORMAT_REGISTRY.register()``.

    Attributes:
        name: the value of ``DATASETS.FORMAT``.
        has_splits: whether what is read depends on ``DataSource.split``.
        has_keypoints: whether keypoints are read where ``DataSource.num_keypoints`` asks for them.
    """

    name: str
    has_splits: bool = True
    has_keypoints: bool = False

    @staticmethod
    @abstractmethod
    def matches(path: Path) -> bool:
        """Whether an existing file or folder looks like this format, at a glance."""

    @staticmethod
    @abstractmethod
    def read(source: DataSource) -> DetectionDataset:
        """Read a dataset.

        Raises:
            DataError: it cannot be read; the message names file, entry and fix.
        """
