"""From a config to the arguments of :class:`~tood.modeling.dense_detector.DenseDetectorCore`."""

from collections.abc import Mapping

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import build_anchor_generator

from ..config.validation import validate_model, validate_model_keys, validate_values
from ..errors import ConfigError
from .heads import build_dense_head
from .phases import build_phases, part_nodes, validate_phases


def validate_config(cfg: CfgNode) -> None:
    """Raise a ConfigError for keys or values of ``cfg.MODEL`` that do not exist or do not fit."""
    validate_model_keys(cfg, part_nodes(cfg.MODEL.TOOD))
    validate_values(cfg)
    validate_model(cfg)


def core_args(cfg: CfgNode, feature_shapes: Mapping[str, ShapeSpec]) -> dict:
    """Build the parts of the core, and collect the constructor's arguments.

    Args:
        cfg: the config.
        feature_shapes: of the available feature maps, by name.

    Returns:
        Keyword arguments, with head, anchor generator and phases built.

    Raises:
        ConfigError: a map, head, assigner or criterion does not exist, or does not fit.
    """
    node = cfg.MODEL.TOOD
    missing = [name for name in node.IN_FEATURES if name not in feature_shapes]
    if missing:
        raise ConfigError(
            f"MODEL.TOOD.IN_FEATURES lists {missing}, which the backbone "
            f"{cfg.MODEL.BACKBONE.NAME} does not produce. "
            f"Available: {', '.join(sorted(feature_shapes))}"
        )
    input_shape = [feature_shapes[name] for name in node.IN_FEATURES]
    head, phases = build_dense_head(cfg, input_shape), build_phases(node)
    validate_phases(phases, getattr(head, "predicts_centerness", False))
    return {
        "head": head,
        "head_in_features": node.IN_FEATURES,
        "level_strides": [shape.stride for shape in input_shape],
        "anchor_generator": build_anchor_generator(cfg, input_shape),
        "phases": phases,
        "initial_phase": "warmup" if node.WARMUP.EPOCHS > 0 else "aligned",
        "num_classes": node.NUM_CLASSES,
        "loss_weights": {key.lower(): weight for key, weight in node.LOSS_WEIGHTS.items()},
        "test_score_thresh": node.SCORE_THRESH_TEST,
        "test_topk_candidates": node.TOPK_CANDIDATES_TEST,
        "test_nms_thresh": node.NMS_THRESH_TEST,
        "max_detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
    }
