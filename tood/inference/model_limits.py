"""What the options of a call can be for a model: this project's, exported ones, detectron2's."""

from detectron2.config import CfgNode
from torch import nn

from tood_runtime.prediction import OptionError, PredictionSettings

from ..errors import ConfigError
from ..modeling import find_dense_core
from .exported_model import ExportedModel
from .two_stage import predicts_masks

# Of NMS in models of other projects, where it is needed to join views.
_OTHER_NMS_THRESHOLD = 0.5


def is_dense(model: nn.Module) -> bool:
    """Whether a model is this project's meta-architecture."""
    return find_dense_core(model) is model


def nms_threshold_of(model: nn.Module, cfg: CfgNode) -> float:
    """A model's own IoU threshold of NMS."""
    if isinstance(model, ExportedModel):
        return model.info.nms_threshold
    if is_dense(model):
        return model.test_nms_thresh
    node = _threshold_node(model, cfg)
    return _OTHER_NMS_THRESHOLD if node is None else cfg.MODEL[node].NMS_THRESH_TEST


def require_possible(model: nn.Module, cfg: CfgNode, settings: PredictionSettings) -> None:
    """Check the options of a call.

    Args:
        model: that is called.
        cfg: its config.
        settings: the options.

    Raises:
        ConfigError: the model drops detections that score more than the threshold.
        OptionError: the model cannot have another NMS, or more detections, or its masks cannot be
            joined.
    """
    if predicts_masks(model) and settings.has_views:
        raise OptionError(
            "slice_size and flip look at an image several times and join the boxes, but masks "
            "cannot be joined yet. Leave these options out, or set MODEL.MASK_ON False before "
            "building the detector."
        )
    if isinstance(model, ExportedModel):
        model.require_settings(settings)
        return
    if is_dense(model):
        return
    node = _threshold_node(model, cfg)
    if node is not None:
        _require_threshold(cfg, node, settings.score_threshold)
    joins = settings.has_views  # nms is then about joining the views
    if settings.nms_threshold is not None or (settings.nms != "per-class" and not joins):
        raise OptionError(
            "nms and nms_threshold are options of TOOD models. Set "
            f"MODEL.{node or '...'}.NMS_THRESH_TEST in the config before building the detector."
        )
    limit = cfg.TEST.DETECTIONS_PER_IMAGE  # negative for all
    if 0 <= limit < (settings.max_detections or 0) and not joins:
        raise OptionError(
            f"max_detections {settings.max_detections} is more than TEST.DETECTIONS_PER_IMAGE "
            f"{limit}. Raise that in the config before building the detector."
        )


def _require_threshold(cfg: CfgNode, node: str, score_threshold: float) -> None:
    key, lowest = f"MODEL.{node}.SCORE_THRESH_TEST", cfg.MODEL[node].SCORE_THRESH_TEST
    if score_threshold < lowest:
        raise ConfigError(
            f"score_threshold {score_threshold} is below {key} {lowest}, and the model drops "
            f"detections below that. Lower {key} in the config before building the detector."
        )


def _threshold_node(model: nn.Module, cfg: CfgNode) -> str | None:
    """The config node with the thresholds of a detector of detectron2; None if not known."""
    if hasattr(model, "roi_heads"):
        return "ROI_HEADS"
    return "RETINANET" if cfg.MODEL.META_ARCHITECTURE == "RetinaNet" else None
