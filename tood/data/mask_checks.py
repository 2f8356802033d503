"""Whether a dataset has the masks that a model with ``MODEL.MASK_ON`` needs."""

import importlib.util

import numpy as np
from detectron2.config import CfgNode

from ..errors import ConfigError, DataError
from .dataset import DetectionDataset
from .formats.json_file import printable
from .formats.masks import WITHOUT_MASK

# How every message about missing masks ends.
_FIX = (
    'Give each object a "segmentation" (polygons or RLE) in a file of COCO\'s format, remove the '
    "objects that have none, or set MODEL.MASK_ON False to use the boxes alone."
)


def validate_training_masks(cfg: CfgNode, dataset: DetectionDataset) -> None:
    """Check that the masks of a training set, if they are learned, are in a format that can be.

    Args:
        cfg: ``MODEL.MASK_ON``, ``INPUT.MASK_FORMAT``, ``INPUT.CROP`` and ``INPUT.LSJ``.
        dataset: as it was read with this config.

    Raises:
        ConfigError: there are masks in RLE, and ``INPUT.MASK_FORMAT`` is polygon: detectron2 makes
            polygons of polygons only; or images are cropped, and there are polygons, which are
            cropped with a package that is not installed.
    """
    if not cfg.MODEL.MASK_ON:
        return
    rows = np.flatnonzero(~dataset.is_crowd)
    masks = dataset.segmentations or []
    rle = [row for row in rows if isinstance(masks[row], dict)]
    if rle and cfg.INPUT.MASK_FORMAT == "polygon":
        raise ConfigError(
            f"{dataset.source} has masks in run-length encoding (RLE): {len(rle)} of {len(rows)} "
            "objects. Set INPUT.MASK_FORMAT bitmask."
        )
    _require_crops(cfg, dataset)


def _require_crops(cfg: CfgNode, dataset: DetectionDataset) -> None:
    crops = [key for key in ("CROP", "LSJ") if cfg.INPUT[key].ENABLED]
    if not crops or importlib.util.find_spec("shapely") is not None:
        return
    if any(isinstance(mask, list) for mask in dataset.segmentations or ()):
        raise ConfigError(
            f"INPUT.{crops[0]}.ENABLED is True, and {dataset.source} has masks of polygons, which "
            f"detectron2 crops with the package shapely. Install it: pip install shapely. Or set "
            f"INPUT.{crops[0]}.ENABLED False."
        )


def require_masks(dataset: DetectionDataset) -> None:
    """Check that all objects of a dataset that was read with masks have one.

    Objects without a mask cannot be left out: their pixels would be learned as background, and
    detections of them would count as wrong. Masks that are invalid are counted when the dataset is
    read, with a warning. Crowds need no masks.

    Raises:
        DataError: objects have none.
    """
    rows = np.flatnonzero(~dataset.is_crowd)
    if dataset.segmentations is None and len(rows):
        image = printable(dataset.file_names[dataset.image_index[rows[0]]])
        raise DataError(
            f"The model predicts masks, but none of the {len(rows)} objects of {dataset.source} "
            f"has a mask (for example {dataset.boxes[rows[0]].tolist()} in {image}): of its "
            f"format, boxes are read and no masks. {_FIX}"
        )
    lacking = dataset.changes.counts[WITHOUT_MASK]
    if lacking:
        raise DataError(
            f"The model predicts masks, but {lacking} of the {lacking + len(rows)} objects of "
            f"{dataset.source} have no mask (for example "
            f"{dataset.changes.examples[WITHOUT_MASK]}). {_FIX}"
        )
