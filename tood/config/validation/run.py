"""What a training and an evaluation check before anything is built."""

from detectron2.config import CfgNode
from detectron2.utils import comm

from ...errors import ConfigError
from ..architecture import TOOD_META_ARCH, has_tood
from .data import validate_test_data, validate_train_data, validate_views
from .model import validate_batch_norm, validate_model, validate_parts
from .rules import Kind, Rule, apply_rules, is_number, list_of, one_of, text
from .solver import SOLVER_RULES, validate_schedule
from .values import validate_values

# The detectors with test-time augmentation: this project's, and detectron2's own.
AUGMENTED_META_ARCHS = (TOOD_META_ARCH, "GeneralizedRCNN")

# tood.engine.tracking has them.
TRACKERS = ("wandb", "mlflow")

_TRACKING_RULES = (
    Rule(
        "TRACKING.TRACKERS",
        list_of(one_of(TRACKERS), f"names. Available: {', '.join(TRACKERS)}"),
    ),
    Rule("TRACKING.PROJECT", text()),
    Rule("TRACKING.TAGS", list_of(text(), "texts")),
)


def _is_expectation(value: object) -> bool:
    """Whether a value is [task, metric, expected value, tolerance], as in detectron2."""
    if not isinstance(value, list | tuple) or len(value) != 4:
        return False
    *names, expected, tolerance = value
    are_names = all(isinstance(name, str) for name in names)
    return are_names and is_number(expected) and is_number(tolerance) and tolerance >= 0


_EXPECTED_RESULTS = Rule(
    "TEST.EXPECTED_RESULTS",
    list_of(Kind(_is_expectation, ""), "[task, metric, expected value, tolerance]"),
    'Example: [["bbox", "AP", 42.3, 0.2]].',
)


def validate_test(cfg: CfgNode, *, build_model: bool = True) -> None:
    """Raise a ConfigError for values with which a model cannot be built or evaluated.

    Args:
        cfg: the config.
        build_model: whether a model will be built from it; False for an exported file.
    """
    validate_values(cfg)
    apply_rules(cfg, [_EXPECTED_RESULTS])
    if cfg.TEST.AUG.ENABLED:
        _validate_augmentation(cfg, build_model)
    validate_test_data(cfg)
    if not build_model:
        return
    if cfg.TEST.LOSS and cfg.MODEL.META_ARCHITECTURE != TOOD_META_ARCH:
        raise ConfigError(
            f"TEST.LOSS is True, but MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE}, "
            f"whose losses cannot be computed while it is evaluated. Set it to False, or use "
            f"{TOOD_META_ARCH}."
        )
    validate_parts(cfg)
    if has_tood(cfg):
        validate_model(cfg)


def _validate_augmentation(cfg: CfgNode, build_model: bool) -> None:
    """Raise a ConfigError where test-time augmentation cannot be evaluated."""
    if not build_model:
        raise ConfigError(
            "TEST.AUG.ENABLED is True, but an exported file has no test-time augmentation. Set it "
            "to False, or evaluate the checkpoint that the file was exported from."
        )
    kind = cfg.MODEL.META_ARCHITECTURE
    if kind not in AUGMENTED_META_ARCHS:
        raise ConfigError(
            f"TEST.AUG.ENABLED is True, but MODEL.META_ARCHITECTURE is {kind}. Set it to False. "
            f"Available with test-time augmentation: {', '.join(AUGMENTED_META_ARCHS)}."
        )
    if kind != TOOD_META_ARCH and cfg.MODEL.KEYPOINT_ON:
        raise ConfigError(
            "TEST.AUG.ENABLED and MODEL.KEYPOINT_ON are True, but detectron2's test-time "
            "augmentation has no keypoints. Set TEST.AUG.ENABLED False."
        )
    validate_views(cfg)


def validate_batches(cfg: CfgNode) -> None:
    """Raise a ConfigError for values with which no batch of a training can be loaded.

    Args:
        cfg: the config.
    """
    validate_values(cfg)
    validate_test_data(cfg)
    validate_train_data(cfg)
    apply_rules(cfg, SOLVER_RULES)


def validate_solver(cfg: CfgNode, *, own_scheduler: bool = False) -> None:
    """Raise a ConfigError for values with which training cannot start or would fail later.

    Needs the number of processes, so detectron2's process group must exist where there are several.

    Args:
        cfg: the config, before detectron2 rescales it for the number of processes.
        own_scheduler: the trainer overrides ``build_lr_scheduler``, so the keys of detectron2's
            schedules are not checked.
    """
    world_size = comm.get_world_size()
    validate_test(cfg)
    if cfg.TEST.EXPECTED_RESULTS and not (cfg.DATASETS.TEST or cfg.DATASETS.TEST_ANNOTATIONS):
        raise ConfigError(
            "TEST.EXPECTED_RESULTS is set, but DATASETS.TEST is empty, so nothing is evaluated. "
            "Name a dataset, or set TEST.EXPECTED_RESULTS []."
        )
    validate_schedule(cfg, world_size, own_scheduler)
    validate_train_data(cfg)
    apply_rules(cfg, _TRACKING_RULES)
    validate_batch_norm(cfg, world_size)
    if cfg.SOLVER.AMP.ENABLED and cfg.MODEL.DEVICE == "cpu":
        raise ConfigError("SOLVER.AMP.ENABLED is True, but MODEL.DEVICE is cpu. Set it to False.")
