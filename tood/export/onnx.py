"""ONNX files.

The graph is traced, which is ten times faster than ``torch.export`` and works with every PyTorch
from 2.6 on, then simplified by ONNX Runtime's own rewriting, which is exact and standard ONNX.
"""

import io
import tempfile
from collections.abc import Collection, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tood_runtime.missing_packages import import_optional
from tood_runtime.model_info import ModelInfo

from ..errors import ExportError
from ..version import __version__
from .quiet import quiet
from .wrapper import ExportableNetwork

# Operators whose presence means that something could not be translated well: TensorRT samples
# nearest in GridSample at opset 20, and the others run a Python loop of the model.
UNWANTED = ("GridSample", "Loop", "If", "Scan")


def to_onnx(
    network: ExportableNetwork,
    inputs: tuple[Tensor, ...],
    opset: int,
    dynamic: bool | Collection[str] = True,
) -> Any:
    """Translate a network to ONNX.

    Call it within :func:`tood.modeling.tracing.exporting`.

    Args:
        network: in evaluation mode, on the CPU.
        inputs: examples of its inputs.
        opset: version of ONNX's operators.
        dynamic: which of "batch", "height" and "width" stay symbolic, True for all; the others are
            those of ``inputs``.

    Returns:
        The ``onnx.ModelProto``, simplified and checked.

    Raises:
        ExportError: a package is missing, or the graph has operators or sizes that it must not
            have.
    """
    onnx = require_onnx()
    _register_deform_conv()
    axes = network.symbolic_axes(dynamic)
    buffer = io.BytesIO()
    # The tracer warns of sizes that it calls constant: channels, which are constant.
    with torch.no_grad(), quiet("torch.onnx"):
        torch.onnx.export(
            network,
            inputs,
            buffer,
            dynamo=False,
            opset_version=opset,
            input_names=list(network.input_names),
            output_names=list(network.output_names),
            dynamic_axes=axes,
        )
    model = onnx.load_from_string(buffer.getvalue())
    # On a CPU, ONNX Runtime would write the casts into the file with which it computes float16
    # convolutions in float32.
    if network.dtype == torch.float32:
        model = simplify(model)
    _clean(model, network, axes)
    onnx.checker.check_model(model)
    require_plain_graph(model)
    return model


def save_onnx(model: Any, path: Path, info: ModelInfo) -> None:
    """Write a model with its metadata."""
    onnx = require_onnx()
    onnx.helper.set_model_props(model, info.to_strings())
    onnx.save(model, str(path))


def require_onnx() -> Any:
    """Import ``onnx`` and check that ONNX Runtime is there.

    Raises:
        ExportError: one of them is missing or too old, with the line that installs both.
    """
    extra = '"tood-detectron2[onnx]"'
    import_optional("onnxruntime", "Exporting ONNX", extra, ExportError)
    return import_optional("onnx", "Exporting ONNX", extra, ExportError)


def simplify(model: Any) -> Any:
    """Fold constants and remove what has no effect.

    Uses ONNX Runtime's basic level, whose result is standard ONNX for any runtime.

    Raises:
        ExportError: this ONNX Runtime cannot load the model.
    """
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 3
        try:
            onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its own classes share no public base
            raise ExportError(_runtime_message(model, error)) from error
        return onnx.load(str(path))


def _runtime_message(model: Any, error: Exception) -> str:
    version = metadata.version("onnxruntime")
    if "DeformConv" in {node.op_type for node in model.graph.node} and "DeformConv" in str(error):
        return (
            f"ONNX Runtime {version} has no DeformConv. Install 1.25 or newer "
            '(pip install "onnxruntime>=1.25"), or use --dcn gather.'
        )
    return f"ONNX Runtime {version} cannot load the exported graph: {error}"


def _clean(model: Any, network: ExportableNetwork, axes: dict[str, dict[int, str]]) -> None:
    """Name the dimensions, and remove what the tools left: their names, domains and traces."""
    used = {node.domain for node in model.graph.node} | {""}
    opsets = [item for item in model.opset_import if item.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    model.producer_name, model.producer_version = "tood", __version__
    model.graph.name = type(network).__name__
    del model.graph.value_info[:]
    del model.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    _require_symbolic((*model.graph.input, *model.graph.output), axes)
    _require_symbolic(_inferred_outputs(model, axes), axes)
    for value in (*model.graph.input, *model.graph.output):
        shape = value.type.tensor_type.shape
        for axis, name in axes.get(value.name, {}).items():
            shape.dim[axis].dim_param = name
        for axis, size in network.fixed_axes.get(value.name, {}).items():
            shape.dim[axis].Clear()
            shape.dim[axis].dim_value = size


def _inferred_outputs(model: Any, axes: dict[str, dict[int, str]]) -> Any:
    """The outputs, with what the graph makes of the dimensions that should be symbolic.

    The exporter declares them as symbolic, whatever the graph does, and ONNX Runtime 1.23 believes
    it. So the declarations are removed.
    """
    import onnx

    for value in model.graph.output:
        for axis in axes.get(value.name, {}):
            value.type.tensor_type.shape.dim[axis].Clear()
    return onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output


def _require_symbolic(values: Iterable[Any], axes: dict[str, dict[int, str]]) -> None:
    """Check that dimensions that should be symbolic are not numbers.

    Raises:
        ExportError: one is a number.
    """
    for value in values:
        for axis, name in axes.get(value.name, {}).items():
            dimension = value.type.tensor_type.shape.dim[axis]
            if dimension.HasField("dim_value"):
                raise ExportError(
                    f"The {name} of {value.name} became the number {dimension.dim_value}. "
                    "Please report this with your config."
                )


def require_plain_graph(model: Any) -> None:
    """Check that a graph has standard operators only, and none of :data:`UNWANTED`.

    Raises:
        ExportError: it has others.
    """
    unwanted = sorted({node.op_type for node in model.graph.node} & set(UNWANTED))
    domains = sorted({node.domain for node in model.graph.node} - {"", "ai.onnx"})
    if unwanted or domains:
        raise ExportError(
            f"The exported graph has {', '.join(unwanted + domains)}, which it should not need. "
            "Please report this with your config."
        )


def _register_deform_conv() -> None:
    """Teach the exporter torchvision's operator; both have the same layout of offsets and masks."""
    from torch.onnx import register_custom_op_symbolic
    from torch.onnx.symbolic_helper import parse_args

    @parse_args(*"vvvvv", *"iiiiiiii", "b")
    def deform_conv2d(
        g: Any,
        x: Any,
        weight: Any,
        offset: Any,
        mask: Any,
        bias: Any,
        stride_h: int,
        stride_w: int,
        pad_h: int,
        pad_w: int,
        dilation_h: int,
        dilation_w: int,
        groups: int,
        offset_groups: int,
        use_mask: bool,
    ) -> Any:
        """ONNX's operator for torchvision's."""
        return g.op(
            "DeformConv",
            *(x, weight, offset, bias, *([mask] if use_mask else [])),
            strides_i=[stride_h, stride_w],
            pads_i=[pad_h, pad_w, pad_h, pad_w],
            dilations_i=[dilation_h, dilation_w],
            group_i=groups,
            offset_group_i=offset_groups,
        )

    register_custom_op_symbolic("torchvision::deform_conv2d", deform_conv2d, 19)
