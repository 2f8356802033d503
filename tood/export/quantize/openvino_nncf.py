"""Quantization of OpenVINO files by NNCF."""

import logging
from collections.abc import Sequence
from typing import Any

from ...errors import ExportError
from .calibration import Feed
from .scope import is_quantized
from .settings import QuantizationSettings


def quantize_openvino(model: Any, feeds: Sequence[Feed], settings: QuantizationSettings) -> Any:
    """Quantize an OpenVINO model.

    Args:
        model: an ``openvino.Model`` in float32.
        feeds: inputs by name, each a batch of calibration images.
        settings: see :class:`QuantizationSettings`.

    Returns:
        A new ``openvino.Model``.

    Raises:
        ExportError: no operator of the model is known to :mod:`.scope`.
    """
    import nncf

    # At its own level it lists every operator that stays in float.
    nncf.set_log_level(logging.WARNING)
    ignored = nodes_in_float(model, settings)
    preset = (
        nncf.QuantizationPreset.PERFORMANCE
        if settings.symmetric
        else (nncf.QuantizationPreset.MIXED)
    )
    return nncf.quantize(
        model,
        nncf.Dataset(feeds),
        preset=preset,
        subset_size=len(feeds),
        fast_bias_correction=settings.bias_correction != "full",
        ignored_scope=nncf.IgnoredScope(names=ignored, validate=False),
        advanced_parameters=_advanced(settings),
    )


def _advanced(settings: QuantizationSettings) -> Any:
    from nncf.quantization.advanced_parameters import (
        AdvancedQuantizationParameters,
        OverflowFix,
    )
    from nncf.quantization.range_estimator import (
        RangeEstimatorParametersSet,
    )

    estimators = {
        "minmax": RangeEstimatorParametersSet.MINMAX,
        "mean": RangeEstimatorParametersSet.MEAN_MINMAX,
        "percentile": RangeEstimatorParametersSet.MEAN_QUANTILE,
    }
    overflow = OverflowFix.ENABLE if settings.seven_bit_weights else OverflowFix.DISABLE
    return AdvancedQuantizationParameters(
        overflow_fix=overflow,
        disable_bias_correction=settings.bias_correction == "none",
        activations_range_estimator_params=estimators[settings.ranges],
    )


def nodes_in_float(model: Any, settings: QuantizationSettings) -> list[str]:
    """Names of the operators that NNCF must leave alone."""
    if settings.parts == "all":
        return []
    weighted = ("Convolution", "GroupConvolution", "MatMul")
    operators = [op for op in model.get_ops() if op.get_type_name() not in _NO_OPERATORS]
    quantized = {
        op.get_friendly_name()
        for op in operators
        if is_quantized(op.get_friendly_name(), settings.parts)
        and (op.get_friendly_name().startswith("/backbone/") or op.get_type_name() in weighted)
    }
    if not quantized:
        raise ExportError(
            "No operator of the file has the name of a backbone's or a head's layer, so nothing "
            "can be quantized. Write the file with: tood export"
        )
    return [op.get_friendly_name() for op in operators if op.get_friendly_name() not in quantized]


_NO_OPERATORS = ("Constant", "Parameter", "Result")
