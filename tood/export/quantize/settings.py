"""How a model is quantized."""

from dataclasses import dataclass
from typing import Literal, get_args

from .scope import PARTS, Parts

Ranges = Literal["minmax", "mean", "percentile"]
BiasCorrection = Literal["none", "fast", "full"]


@dataclass(frozen=True)
class QuantizationSettings:
    """How a model is quantized. ``docs/results/experiments.md`` has what each setting costs.

    Attributes:
        parts: what is computed in int8; see :func:`~tood.export.quantize.scope.is_quantized`.
        ranges: how the range of an activation follows from the calibration images: "minmax" for its
            extremes over all of them, "mean" for the mean of the images' extremes, "percentile"
            for what 99.999 % of its values lie in.
        seven_bit_weights: use 7 of the 8 bits of weights. CPUs without VNNI (AVX2) add two products
            in 16 bits, which saturates with 8 bits. On others it costs half of the weights'
            precision.
        symmetric: activations with a zero point of 0, except where they are never negative.
        bias_correction: shift biases by the mean error of their layer (OpenVINO only): "fast" from
            the statistics of the float model, "full" layer by layer.

    Raises:
        ValueError: an unknown value.
    """

    parts: Parts = "layers"
    ranges: Ranges = "minmax"
    seven_bit_weights: bool = True
    symmetric: bool = False
    bias_correction: BiasCorrection = "fast"

    def __post_init__(self) -> None:
        for name, choices in (
            ("parts", PARTS),
            ("ranges", get_args(Ranges)),
            ("bias_correction", get_args(BiasCorrection)),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"Unknown {name} {getattr(self, name)!r}. Available: {', '.join(choices)}."
                )


#: What :func:`~tood.export.quantize.quantize` uses for each kind of file.
DEFAULTS = {"onnx": QuantizationSettings(), "openvino": QuantizationSettings()}
