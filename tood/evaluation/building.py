"""Builds the evaluator of a dataset by its type."""

import hashlib
import os
import re
from importlib.util import find_spec
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator, LVISEvaluator, PascalVOCDetectionEvaluator

from ..compat import numpy_float
from ..errors import ConfigError
from .coco_evaluator import FastCOCOEvaluator

# Types whose metric for boxes is COCO's; "" for datasets that name none.
COCO_TYPES = ("", "coco", "coco_panoptic_seg")


class FixedLVISEvaluator(LVISEvaluator):
    """detectron2's evaluator of LVIS, with the current NumPy.

    Classes that an image was not searched for do not count in it.
    """

    def evaluate(self) -> dict[str, Any]:
        """Evaluate the collected predictions; see ``LVISEvaluator``."""
        with numpy_float():
            return super().evaluate()


def build_evaluator(
    cfg: CfgNode, dataset_name: str, output_folder: str | None = None
) -> DatasetEvaluator:
    """Build the evaluator that a dataset's ``evaluator_type`` names.

    Args:
        cfg: the config, after `tood.data.setup_datasets`.
        dataset_name: of a registered dataset.
        output_folder: for the results; by default `result_folder`.

    Raises:
        ConfigError: boxes cannot be evaluated with this type.
        DataError: the dataset cannot be read or has no ground truth.
    """
    folder = output_folder or result_folder(cfg, dataset_name)
    kind = _evaluator_type(dataset_name)
    if kind in COCO_TYPES:
        return FastCOCOEvaluator(
            dataset_name,
            output_dir=folder,
            kpt_oks_sigmas=cfg.TEST.KEYPOINT_OKS_SIGMAS,
            max_dets_per_image=cfg.TEST.DETECTIONS_PER_IMAGE,
        )
    if kind == "lvis":
        return FixedLVISEvaluator(dataset_name, output_dir=folder)
    return PascalVOCDetectionEvaluator(dataset_name)


def validate_evaluators(cfg: CfgNode) -> None:
    """Check that boxes can be evaluated on every dataset of ``DATASETS.TEST``, before training.

    Raises:
        ConfigError: the type of a dataset's evaluator is not supported here, or has no keypoints.
    """
    for name in cfg.DATASETS.TEST:
        kind = _evaluator_type(name)
        if cfg.MODEL.KEYPOINT_ON and kind not in COCO_TYPES:
            raise ConfigError(
                f"{name} has the evaluator type {kind!r}, which does not evaluate keypoints. To "
                f"evaluate as COCO does, set MetadataCatalog.get({name!r}).evaluator_type = 'coco'."
            )


def _evaluator_type(dataset_name: str) -> str:
    kind: str = MetadataCatalog.get(dataset_name).get("evaluator_type") or ""
    if kind == "lvis" and find_spec("lvis") is None:
        raise ConfigError(
            f"{dataset_name} is evaluated as LVIS, which needs a package: pip install lvis"
        )
    if kind in (*COCO_TYPES, "lvis", "pascal_voc"):
        return kind
    raise ConfigError(
        f"{dataset_name} has the evaluator type {kind!r}, which does not evaluate boxes. "
        "Available: coco, lvis, pascal_voc. To evaluate its boxes as COCO does, set "
        f"MetadataCatalog.get({dataset_name!r}).evaluator_type = 'coco'."
    )


def result_folder(cfg: CfgNode, dataset_name: str, name: str = "inference") -> str:
    """Return the folder for the results of a dataset.

    It is ``OUTPUT_DIR/inference`` for a single test set, and a folder in it with the name of the
    dataset where there are several.

    Args:
        cfg: the config.
        dataset_name: of the dataset.
        name: in the place of "inference".
    """
    folder = os.path.join(cfg.OUTPUT_DIR, name)
    if len(cfg.DATASETS.TEST) < 2:
        return folder
    subfolder = re.sub(r"[^\w.-]+", "-", dataset_name).strip(".-")[:80]
    if subfolder != dataset_name:  # another name may look the same
        digest = hashlib.sha256(dataset_name.encode("utf-8", "backslashreplace")).hexdigest()
        subfolder = f"{subfolder}-{digest[:8]}".lstrip("-")
    return os.path.join(folder, subfolder)
