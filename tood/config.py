"""The config keys that TOOD adds to detectron2's, and reading a config."""

import importlib.util
import logging
import sys
import zlib
from pathlib import Path

import torch
from detectron2.config import CfgNode, get_cfg
from yaml import YAMLError

from .errors import ConfigError

logger = logging.getLogger(__name__)


def add_tood_config(cfg: CfgNode) -> None:
    """Add TOOD's keys, with the paper's values, to a config made by detectron2's ``get_cfg()``.

    Args:
        cfg: changed in place.
    """
    cfg.MODEL.TOOD = CfgNode()
    _add_model_keys(cfg.MODEL.TOOD)
    _add_training_keys(cfg.MODEL.TOOD)

    # ---- your own data: a COCO-format JSON and the folder that its file names are relative to ----
    # Where given, they take the place of DATASETS.TRAIN and DATASETS.TEST.
    cfg.DATASETS.TRAIN_JSON = ""
    cfg.DATASETS.TRAIN_IMAGES = ""
    cfg.DATASETS.TEST_JSON = ""
    cfg.DATASETS.TEST_IMAGES = ""


def _add_model_keys(node: CfgNode) -> None:
    """The keys of ``MODEL.TOOD`` that the model itself and inference need."""
    # Python files or modules that the programs import before they build the model: they register
    # heads, assigners and criteria of your own, to be named below.
    node.IMPORTS = []
    # K, the number of classes of the dataset. The class index K means background.
    node.NUM_CLASSES = 80
    # Feature maps of the backbone that the head works on, finest first.
    node.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]
    # How boxes are predicted: "anchor_free" (distances from the point to the four sides) or
    # "anchor_based" (deltas to the anchor). Both have one anchor a cell.
    node.ANCHOR_TYPE = "anchor_free"

    # ---- the head ----
    node.HEAD = CfgNode()
    # Name in DENSE_HEAD_REGISTRY.
    node.HEAD.NAME = "TOODHead"
    # N of the paper, the number of interactive layers.
    node.HEAD.NUM_CONVS = 6
    # Channels of every interactive layer.
    node.HEAD.CHANNELS = 256
    # Normalisation of the head's convolutions, by detectron2's names ("GN" has 32 groups).
    node.HEAD.NORM = "GN"
    # How many interactive layers, from the first on, are deformable (DCNv2, 4 groups).
    node.HEAD.NUM_DCN = 0
    # Score of every point at the start of training.
    node.HEAD.PRIOR_PROB = 0.01

    # ---- inference; TEST.DETECTIONS_PER_IMAGE (100) is detectron2's ----
    # Candidates score more than this.
    node.SCORE_THRESH_TEST = 0.05
    # Candidates, (point, class) pairs, per level.
    node.TOPK_CANDIDATES_TEST = 1000
    # Boxes of one class that overlap by more than this IoU suppress each other.
    node.NMS_THRESH_TEST = 0.6

    # ---- the classes, for people and result files ----
    # Names of the classes, and their ids in COCO-format files, by class index. Training and
    # evaluation fill them in from the dataset and save them with the config, so that a model can
    # be shown where its dataset is not.
    node.CLASS_NAMES = []
    node.CATEGORY_IDS = []


def _add_training_keys(node: CfgNode) -> None:
    """The keys of ``MODEL.TOOD`` that only training needs."""
    # Length of the warm-up phase in epochs of the training set as filtered; 0 starts with task
    # alignment learning. In the paper 4 of 12 and 4 of 24 epochs.
    node.WARMUP_EPOCHS = 4
    # The warm-up phase: its assigner (ASSIGNER_REGISTRY) and losses (CRITERION_REGISTRY).
    node.WARMUP = CfgNode()
    node.WARMUP.ASSIGNER = "ATSSAssigner"
    node.WARMUP.CRITERION = "CenternessFocalCriterion"
    # The phase after it, task alignment learning (TAL).
    node.ALIGNED = CfgNode()
    node.ALIGNED.ASSIGNER = "TaskAlignedAssigner"
    node.ALIGNED.CRITERION = "TaskAlignedCriterion"

    # ---- the assigners ----
    node.ATSS = CfgNode()
    # Candidates per ground truth and level.
    node.ATSS.TOPK = 9
    node.TAL = CfgNode()
    # m of the paper: candidates per ground truth, over all levels.
    node.TAL.TOPK = 13
    # Exponents of the alignment metric t = s^alpha * u^beta (eq. 9).
    node.TAL.ALPHA = 1.0
    node.TAL.BETA = 6.0

    # ---- the losses ----
    # Focal loss of the warm-up phase: weight of the positives, and focusing exponent.
    node.FOCAL_LOSS = CfgNode()
    node.FOCAL_LOSS.ALPHA = 0.25
    node.FOCAL_LOSS.GAMMA = 2.0
    # Classification loss of TAL (eq. 11): focusing exponent gamma.
    node.TASK_ALIGNED_LOSS = CfgNode()
    node.TASK_ALIGNED_LOSS.GAMMA = 2.0
    # Weights of the losses in the total, by their names, in both phases.
    node.LOSS_WEIGHTS = CfgNode()
    node.LOSS_WEIGHTS.LOSS_CLS = 1.0
    node.LOSS_WEIGHTS.LOSS_BOX_REG = 2.0


def load_config(config_file: str, opts: list[str]) -> CfgNode:
    """The config of a program run: detectron2's and TOOD's defaults, a file, then options.

    Without a GPU, ``MODEL.DEVICE`` becomes "cpu".

    Args:
        config_file: path of a YAML file.
        opts: ``[KEY, VALUE, ...]``.

    Returns:
        The config, not frozen.

    Raises:
        ConfigError: a file is missing, a key is unknown, or a value does not fit.
    """
    cfg = get_cfg()
    add_tood_config(cfg)
    if not Path(config_file).is_file():
        raise ConfigError(
            f"there is no config file {config_file or '(none named)'}: check the path"
        )
    try:
        cfg.merge_from_file(config_file)
    except (KeyError, ValueError, AssertionError, YAMLError) as error:
        raise ConfigError(f"{config_file}: {_reason(error)}") from error
    try:
        cfg.merge_from_list(opts)
    except (KeyError, ValueError, AssertionError) as error:
        raise ConfigError(f"in the options: {_reason(error)}") from error
    for name in cfg.MODEL.TOOD.IMPORTS:
        _import(name)
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        logger.warning("There is no GPU: MODEL.DEVICE is cpu instead of %s.", cfg.MODEL.DEVICE)
        cfg.MODEL.DEVICE = "cpu"
    return cfg


def _import(name: str) -> None:
    """Import a module by its name, or a file by its path; each once."""
    path = Path(name)
    key = name
    if path.suffix == ".py":  # files of one name from two folders are two modules
        key = f"tood_imports.{path.stem}_{zlib.crc32(str(path.resolve()).encode()):08x}"
    if key in sys.modules:
        return
    try:
        if path.suffix != ".py":
            importlib.import_module(name)
            return
        spec = importlib.util.spec_from_file_location(key, path)
        sys.modules[key] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except (ModuleNotFoundError, FileNotFoundError) as error:
        sys.modules.pop(key, None)
        raise ConfigError(f"MODEL.TOOD.IMPORTS names {name}: {error}") from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).strip("'\"").split())
