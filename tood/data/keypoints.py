"""Matches the keypoints of datasets with a config."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from detectron2.config import CfgNode
from pycocotools.cocoeval import Params

from ..errors import ConfigError, DataError
from .dataset import DetectionDataset
from .formats.keypoints import KEY
from .keypoint_arrays import count_labeled
from .keypoint_flips import registered_keypoint_names, validate_flip

logger = logging.getLogger(__name__)


def num_keypoints(cfg: CfgNode) -> int:
    """Return how many keypoints datasets are read with; 0 if the model predicts none."""
    return int(cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS) if cfg.MODEL.KEYPOINT_ON else 0


def min_keypoints(cfg: CfgNode) -> int:
    """Return how many labeled keypoints a training image needs; 0 if the model predicts none."""
    node = cfg.MODEL.ROI_KEYPOINT_HEAD
    return int(node.MIN_KEYPOINTS_PER_IMAGE) if cfg.MODEL.KEYPOINT_ON else 0


def validate_keypoint_keys(cfg: CfgNode) -> None:
    """Refuse keys that cannot be used together with ``MODEL.KEYPOINT_ON``.

    Raises:
        ConfigError: a key says something that keypoints do not have.
    """
    if not cfg.MODEL.KEYPOINT_ON:
        return
    if cfg.MODEL.META_ARCHITECTURE == "TOOD":
        raise ConfigError(
            "MODEL.KEYPOINT_ON is True, but MODEL.META_ARCHITECTURE TOOD predicts boxes only. Set "
            "MODEL.KEYPOINT_ON False, or use a model with a keypoint head, such as the config "
            "two_stage/TOOD-KeypointRCNN-R50-1x."
        )
    count = cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS
    if type(count) is not int or count < 1:
        raise ConfigError(f"{KEY} is {count!r}, but must be an integer from 1.")
    for name in ("MOSAIC", "MIXUP"):
        if cfg.INPUT[name].ENABLED:
            raise ConfigError(
                f"INPUT.{name}.ENABLED is True, but MODEL.KEYPOINT_ON is too, and keypoints of "
                "several images are not put together. Set one of them to False."
            )


def has_registered_names(name: str, dataset: DetectionDataset) -> bool:
    """Whether the metadata of a dataset have the keypoint names that it was read with, or none."""
    return registered_keypoint_names(name) in ([], dataset.keypoint_names)


def with_registered_names(name: str, dataset: DetectionDataset) -> DetectionDataset:
    """Return a dataset with the keypoint names of its metadata, where those have any."""
    names = registered_keypoint_names(name)
    if dataset.keypoints is None or not names:
        return dataset
    if dataset.keypoint_names and dataset.keypoint_names != names:
        logger.warning(
            "The metadata of %s has the keypoints %s, but its file has %s. Those of the metadata "
            "are used.",
            *(name, ", ".join(names), ", ".join(dataset.keypoint_names)),
        )
    return replace(dataset, keypoint_names=names)


def validate_keypoints(cfg: CfgNode, name: str, dataset: DetectionDataset, split: str) -> None:
    """Check that the keypoints of a dataset can be trained on, or evaluated.

    Args:
        cfg: the config.
        name: of the registered dataset.
        dataset: what was read.
        split: "TRAIN" or "TEST".

    Raises:
        ConfigError: the config does not fit them.
        DataError: none is labeled.
    """
    if not cfg.MODEL.KEYPOINT_ON or dataset.keypoints is None:
        return
    names, count = dataset.keypoint_names, num_keypoints(cfg)
    if names and len(names) != count:
        raise ConfigError(
            f"{name} has {len(names)} keypoints ({', '.join(names)}), but {KEY} is {count}. Set "
            f"{KEY} {len(names)}."
        )
    if dataset.annotated and not count_labeled(dataset.keypoints[~dataset.is_crowd]).any():
        raise DataError(
            f"{dataset.source} has no labeled keypoints, but MODEL.KEYPOINT_ON is True. Name "
            "annotations with keypoints, such as COCO's person_keypoints_train2017.json, or set "
            "MODEL.KEYPOINT_ON False."
        )
    if split == "TRAIN":
        validate_flip(cfg, name)
    elif dataset.annotated:
        oks_sigmas(cfg.TEST.KEYPOINT_OKS_SIGMAS, count)


def validate_equal_keypoints(dataset: DetectionDataset, first: DetectionDataset) -> None:
    """Check that two datasets have the same keypoints.

    Raises:
        ConfigError: they have different names, or the same in another order.
    """
    known = dataset.keypoint_names and first.keypoint_names
    if known and first.keypoint_names != dataset.keypoint_names:
        raise ConfigError(
            f"{dataset.source} has the keypoints {dataset.keypoint_names}, but {first.source} has "
            f"{first.keypoint_names}. All sets must have the same keypoints in the same order."
        )


def oks_sigmas(sigmas: Sequence[float], count: int) -> list[float]:
    """Return the sigmas of the object keypoint similarity (OKS), COCO's for none.

    Args:
        sigmas: ``TEST.KEYPOINT_OKS_SIGMAS``.
        count: P, the number of keypoints.

    Raises:
        ConfigError: there are not P numbers above 0.
    """
    given = list(sigmas)
    values = given or Params(iouType="keypoints").kpt_oks_sigmas.tolist()
    if len(values) != count:
        found = f"has {len(given)} values" if given else "is empty, which means COCO's 17"
        raise ConfigError(
            f"TEST.KEYPOINT_OKS_SIGMAS {found}, but there are {count} keypoints. Give one for each "
            "keypoint: how far annotators differ, relative to the size of the object (COCO: from "
            "0.025 for eyes to 0.107 for hips)."
        )
    if not all(isinstance(x, (int, float)) and np.isfinite(x) and x > 0 for x in values):
        raise ConfigError(
            f"TEST.KEYPOINT_OKS_SIGMAS is {values}, but must be numbers above 0, one for each "
            "keypoint."
        )
    return [float(value) for value in values]
