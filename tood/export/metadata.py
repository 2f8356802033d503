"""The metadata of an exported file, from the config and the weights."""

import logging
from datetime import datetime, timezone
from pathlib import Path

from detectron2.config import CfgNode
from torch import nn

from tood_runtime.model_info import ModelInfo

from ..checkpoint.info import current_versions, read_info
from ..checkpoint.safe_load import peek_file
from ..data.registration import class_info
from ..errors import CheckpointError, ExportError
from ..modeling import find_dense_core, size_divisor
from .files import sha256
from .options import ExportOptions

logger = logging.getLogger(__name__)


def build_info(
    model: nn.Module,
    cfg: CfgNode,
    options: ExportOptions,
    *,
    name: str,
    weights: str | None = None,
) -> ModelInfo:
    """Collect what an exported file says about itself.

    Args:
        model: a TOOD.
        cfg: the config that it was built from.
        options: of the export.
        name: of the model.
        weights: local file of the weights, for its sha256; None if there is none.
    """
    core = find_dense_core(model)
    assert core is not None
    names, ids = class_info(cfg)
    if not cfg.MODEL.TOOD.CLASS_NAMES and names[:1] == ["class 0"]:
        logger.warning(
            "The config has no class names, so the file calls them class 0, class 1 and so on. Set "
            "MODEL.TOOD.CLASS_NAMES."
        )
    if cfg.INPUT.FORMAT not in ("BGR", "RGB", "L"):
        raise ExportError(
            f"INPUT.FORMAT is {cfg.INPUT.FORMAT}, which the runners of exported files cannot "
            "convert images to. Available: BGR, RGB, L."
        )
    width, height = options.size or (None, None)
    return ModelInfo(
        model=name,
        output="raw" if options.raw else "detections",
        precision=options.precision,
        class_names=names,
        category_ids=list(ids),
        channel_order=cfg.INPUT.FORMAT,
        channels=len(cfg.MODEL.PIXEL_MEAN),
        apply_exif_orientation=cfg.INPUT.APPLY_EXIF_ORIENTATION,
        min_size=cfg.INPUT.MIN_SIZE_TEST,
        max_size=cfg.INPUT.MAX_SIZE_TEST,
        size_divisor=size_divisor(model),
        level_strides=list(core.level_strides),
        batch=options.batch,
        height=height,
        width=width,
        score_threshold=core.test_score_thresh,
        nms_threshold=core.test_nms_thresh,
        topk_candidates=core.test_topk_candidates,
        max_detections=core.max_detections_per_image,
        config=cfg.dump(),
        weights_sha256="" if weights is None else sha256(Path(weights)),
        versions=current_versions(),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        is_average=weights is not None and _is_average(weights),
    )


def _is_average(weights: str) -> bool:
    """Whether a checkpoint says that its weights are an average over training."""
    try:
        info = read_info(peek_file(weights), weights)
    except CheckpointError:  # of a program whose files nobody here reads
        return False
    if info is None or not info.is_average:
        return False
    logger.info("The weights are an average over training (EMA), and the file says so.")
    return True
