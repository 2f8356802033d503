"""The parameters of detectron2's ROI heads that depend on the number of classes."""

from collections.abc import Collection

from detectron2.modeling.roi_heads import FastRCNNOutputLayers, MaskRCNNConvUpsampleHead
from torch import nn

_SCORES = "cls_score"
# The parts of each, whose first dimension is a multiple of the number of classes. The boxes and
# masks of class-agnostic heads are not, and never differ.
_PARTS = {
    FastRCNNOutputLayers: (_SCORES, "bbox_pred"),
    MaskRCNNConvUpsampleHead: ("predictor",),
}


def roi_class_parameters(model: nn.Module) -> list[str]:
    """Return the names of these parameters; none if a model has no ROI heads."""
    return [
        f"{name}.{part}.{key}"
        for name, module in model.named_modules()
        for kind, parts in _PARTS.items()
        if isinstance(module, kind)
        for part in parts
        for key, _ in getattr(module, part).named_parameters()
    ]


def have_other_classes(
    mismatched: Collection[str], of_head: Collection[str], of_roi_heads: Collection[str]
) -> bool:
    """Whether another number of classes explains which parameters have another number of rows.

    Args:
        mismatched: these parameters.
        of_head: all class-specific parameters of the dense detector.
        of_roi_heads: `roi_class_parameters`.
    """
    found = set(mismatched)
    first, second = found.intersection(of_head), found.intersection(of_roi_heads)
    # A first stage that knows no classes stays as it is, and a file may have no second stage.
    scores = {key for key in of_roi_heads if f".{_SCORES}." in key} if second else set()
    return (
        bool(found)
        and found == first | second
        and first in (set(), set(of_head))
        and scores <= found
    )
