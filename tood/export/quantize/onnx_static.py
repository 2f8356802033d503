"""Static quantization of ONNX files by ONNX Runtime's quantizer.

The result has standard operators: ``QuantizeLinear`` and ``DequantizeLinear`` around each quantized
convolution, which ONNX Runtime fuses with it when it loads the file.
"""

import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from ...errors import ExportError
from ..quiet import quiet
from .calibration import Feed
from .scope import is_quantized
from .settings import QuantizationSettings

_WEIGHTED = ("Conv", "MatMul")
# Quantized together with the convolutions of the backbone. Without its activation, a convolution's
# output would need the range of the values that the activation cuts off; and sums of two int8
# tensors need not be float.
_FUSED = ("Relu", "Clip", "Add", "MaxPool")


def quantize_onnx(model: Any, feeds: Sequence[Feed], settings: QuantizationSettings) -> Any:
    """Quantize an ONNX model.

    Args:
        model: an ``onnx.ModelProto`` in float32; it is changed.
        feeds: inputs by name, each a batch of calibration images.
        settings: see :class:`QuantizationSettings`.

    Returns:
        A new ``onnx.ModelProto``, without metadata.

    Raises:
        ExportError: no operator of the model is known to :mod:`.scope`.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    names = nodes_to_quantize(model, settings)
    shapes = [value.SerializeToString() for value in (*model.graph.input, *model.graph.output)]
    producer = model.producer_name, model.producer_version
    _separate_float_consumers(model, set(names))
    # The quantizer asks for its own preprocessing otherwise, which the exporter has done.
    onnx.helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    method, options = _calibration(settings)
    with tempfile.TemporaryDirectory() as folder, quiet(), redirect_stdout(io.StringIO()):
        path = str(Path(folder, "int8.onnx"))
        quantize_static(
            model,
            path,
            _Reader(feeds),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=[*_WEIGHTED, *_FUSED],
            nodes_to_quantize=names,
            per_channel=True,
            reduce_range=settings.seven_bit_weights,
            activation_type=QuantType.QInt8 if settings.symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=method,
            extra_options={"ActivationSymmetric": settings.symmetric, **options},
        )
        quantized = onnx.load(path)
    _remove_identities(quantized)
    quantized.producer_name, quantized.producer_version = producer
    del quantized.graph.value_info[:]
    del quantized.metadata_props[:]
    values = (*quantized.graph.input, *quantized.graph.output)
    for value, shape in zip(values, shapes, strict=True):
        value.ParseFromString(shape)
    onnx.checker.check_model(quantized)
    return quantized


def nodes_to_quantize(model: Any, settings: QuantizationSettings) -> list[str]:
    """Names of the nodes that are computed in int8.

    Raises:
        ExportError: there are none.
    """
    weighted = _WEIGHTED if settings.parts in ("head", "all") else ("Conv",)
    names = [
        node.name
        for node in model.graph.node
        if is_quantized(node.name, settings.parts)
        and (
            node.op_type in weighted
            or (node.op_type in _FUSED and node.name.startswith("/backbone/"))
        )
    ]
    if not names:
        raise ExportError(
            "No operator of the file has the name of a backbone's or a head's layer, so nothing "
            "can be quantized. Write the file with: tood export"
        )
    return names


_SEPARATOR = "_quantized_input"


def _separate_float_consumers(model: Any, quantized: set[str]) -> None:
    """Let quantized nodes read a copy of what float nodes read too.

    Quantizing a tensor changes it for all that read it. The stack of interactive features, for one,
    is read by the predictors.
    """
    import onnx

    consumers: dict[str, set[bool]] = {}
    for node in model.graph.node:
        for name in node.input:
            consumers.setdefault(name, set()).add(node.name in quantized)
    nodes, copies = [], {}
    for node in model.graph.node:
        if node.name in quantized and consumers[node.input[0]] == {True, False}:
            source = node.input[0]
            if source not in copies:
                copies[source] = source + _SEPARATOR
                nodes.append(
                    onnx.helper.make_node("Identity", [source], [copies[source]], copies[source])
                )
            node.input[0] = copies[source]
        nodes.append(node)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _remove_identities(model: Any) -> None:
    """Remove the copies that :func:`_separate_float_consumers` has made."""
    copies = {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if node.op_type == "Identity" and node.name.endswith(_SEPARATOR)
    }
    kept = [node for node in model.graph.node if node.output[0] not in copies]
    for node in kept:
        for i, name in enumerate(node.input):
            node.input[i] = copies.get(name, name)
    kept = [type(node).FromString(node.SerializeToString()) for node in kept]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _calibration(settings: QuantizationSettings) -> tuple[Any, dict[str, Any]]:
    """The calibration method, and the options that it needs."""
    from onnxruntime.quantization import CalibrationMethod

    if settings.ranges == "percentile":
        # Histograms need the activations themselves; those of all images may not fit into memory.
        options = {"CalibPercentile": 99.999, "CalibStridedMinMax": 1}
        return CalibrationMethod.Percentile, options
    if settings.ranges == "mean":
        return CalibrationMethod.MinMax, {"CalibMovingAverage": True}
    return CalibrationMethod.MinMax, {}


class _Reader:
    """ONNX Runtime's ``CalibrationDataReader``, by its methods."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds = feeds
        self._range = range(len(feeds))
        self._next: Iterator[int] = iter(self._range)

    def get_next(self) -> Feed | None:
        """The next batch; None at the end."""
        index = next(self._next, None)
        return None if index is None else self._feeds[index]

    def __len__(self) -> int:
        return len(self._feeds)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Continue with the batches from ``start_index`` up to ``end_index``."""
        self._next = iter(range(start_index, end_index))
