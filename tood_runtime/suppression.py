"""Which of many overlapping boxes are kept: NMS and its relatives."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .missing_packages import import_optional
from .nms import Candidates, concatenate, nms

# Soft NMS and WBF compare all boxes with each other.
_MOST_COMPARED = 1000


def suppress(
    views: Sequence[Candidates],
    method: str,
    *,
    iou_threshold: float,
    score_threshold: float,
    limit: int | None,
) -> Candidates:
    """Choose among overlapping boxes of one image.

    Args:
        views: candidates, in pixels of the image; one group for each look at the image. They make a
            difference to weighted box fusion only, which lowers the score of what few views show.
        method: "per-class" is the model's own NMS; "class-agnostic" keeps one box of any class per
            place; "soft" lowers the scores of overlapping boxes instead of dropping them; "wbf"
            averages overlapping boxes.
        iou_threshold: boxes with a larger IoU are of one object; has no meaning for "soft".
        score_threshold: boxes that score more than this are kept.
        limit: maximum number of boxes; None for all.

    Returns:
        What is kept, best first.

    Raises:
        ImportError: the package of the method is not installed.
    """
    found = concatenate(views)
    if method in ("soft", "wbf"):
        require_method(method)
        fused = _soft_nms(found) if method == "soft" else _fuse(views, iou_threshold)
        order = np.argsort(-fused.scores, kind="stable")
        kept = fused.take(order[fused.scores[order] > np.float32(score_threshold)])
        return kept.take(np.arange(len(kept.scores))[:limit])
    found = found.take(found.scores > np.float32(score_threshold))
    classes = np.zeros_like(found.classes) if method == "class-agnostic" else found.classes
    return found.take(nms(found.boxes, found.scores, classes, iou_threshold, limit))


def require_method(method: str) -> Callable[..., Any] | None:
    """The function of another package that a method needs; None for methods that need none.

    Raises:
        ImportError: the package is not installed.
    """
    if method == "soft":
        package = import_optional("supervision", 'nms="soft"', "supervision")
        function: Callable[..., Any] = package.box_soft_non_max_suppression
        return function
    if method == "wbf":
        package = import_optional("ensemble_boxes", 'nms="wbf"', "ensemble-boxes")
        fuse: Callable[..., Any] = package.weighted_boxes_fusion
        return fuse
    return None


def _soft_nms(found: Candidates) -> Candidates:
    """Gaussian soft NMS within each class (Bodla et al., 2017), sigma 0.5."""
    found = _best(found)
    if not len(found.scores):
        return found
    function = require_method("soft")
    assert function is not None
    columns = np.concatenate(
        [found.boxes, found.scores[:, None], found.classes[:, None]], axis=1, dtype=np.float64
    )
    scores = function(columns, sigma=0.5)
    return found._replace(scores=scores.astype(np.float32))


def _fuse(views: Sequence[Candidates], iou_threshold: float) -> Candidates:
    """Weighted box fusion within each class (Solovyev et al., 2021).

    The score of a fused box is the largest one of a single view, and the average over several.
    """
    views = [_best(view) for view in views]
    boxes = np.concatenate([view.boxes for view in views])
    if not len(boxes):
        return views[0]
    # The function takes boxes within [0, 1].
    size = max(float(boxes.max()), 1.0)
    function = require_method("wbf")
    assert function is not None
    fused, scores, classes = function(
        [view.boxes / size for view in views],
        [view.scores for view in views],
        [view.classes for view in views],
        iou_thr=iou_threshold,
        conf_type="max" if len(views) == 1 else "avg",
    )
    return Candidates(
        np.asarray(fused * size, np.float32),
        np.asarray(scores, np.float32),
        np.asarray(classes).astype(np.int64),
    )


def _best(found: Candidates) -> Candidates:
    order = np.argsort(-found.scores, kind="stable")
    return found.take(order[:_MOST_COMPARED])
