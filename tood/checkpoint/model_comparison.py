"""Compare weights with a model that is, or contains, a dense detector."""

from torch import nn

from ..modeling.dense_detector import DenseDetectorCore
from .key_report import KeyReport, compare_keys, parts_without_one_stage_weights
from .loading import LoadedWeights
from .roi_classes import roi_class_parameters

_SECOND_STAGE = "roi_heads."


def core_prefix(model: nn.Module, core: DenseDetectorCore) -> str:
    """The prefix of the detector's parameters in a model; empty if the model is the detector."""
    name = next(name for name, module in model.named_modules() if module is core)
    return f"{name}." if name else ""


def class_specific_keys(model: nn.Module, core: DenseDetectorCore) -> list[str]:
    """The model's keys of the head's parameters whose first dimension is the class."""
    names = getattr(core.head, "class_specific_parameters", ())
    keys = [f"{core_prefix(model, core)}head.{name}" for name in names]
    expected = model.state_dict().keys()
    return [key for key in keys if key in expected]


def compare_with_model(
    model: nn.Module, core: DenseDetectorCore, weights: LoadedWeights, *, allow_exceptions: bool
) -> tuple[LoadedWeights, KeyReport]:
    """Rename weights for the place that the detector has in a model, and compare them with it.

    Args:
        model: that the weights are for.
        core: the dense detector in it.
        weights: with this project's names.
        allow_exceptions: accept a backbone alone, another number of classes, and the weights of a
            first stage alone, as for training.

    Returns:
        The renamed weights, and where they differ from the model. A model of a first stage alone,
        detectron2's ``ProposalNetwork``, needs no second stage: that of the weights is left out,
        and listed in ``ignored``.
    """
    expected, prefix = model.state_dict(), core_prefix(model, core)
    weights = weights.nested(prefix, expected)
    if prefix and not any(key.startswith(_SECOND_STAGE) for key in expected):
        weights = weights.without(_SECOND_STAGE, "the second stage")
    optional = parts_without_one_stage_weights(expected, prefix, core.head_in_features)
    report = compare_keys(
        expected,
        weights,
        allow_backbone_only=allow_exceptions,
        allow_new_classes=allow_exceptions,
        class_specific_parameters=getattr(core.head, "class_specific_parameters", ()),
        head_prefix=f"{prefix}head.",
        roi_class_parameters=roi_class_parameters(model),
        optional_parts=optional if allow_exceptions else (),
    )
    return weights, report
