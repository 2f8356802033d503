"""OpenVINO files: NAME.xml with the graph and the metadata, and NAME.bin with the weights."""

from pathlib import Path
from typing import Any

from tood_runtime.backends.openvino import INFO_KEY, get_core
from tood_runtime.missing_packages import import_optional
from tood_runtime.model_info import ModelInfo

from ..errors import ExportError


def to_openvino(model: Any) -> Any:
    """Convert an ONNX model. Names stay, and so do sizes that may have any value.

    Args:
        model: an ``onnx.ModelProto``, traced without ``DeformConv``.

    Returns:
        The ``openvino.Model``.

    Raises:
        ExportError: openvino is missing, or it lacks an operator of the model.
    """
    openvino = require_openvino()
    if "DeformConv" in {node.op_type for node in model.graph.node}:
        raise ExportError(
            "OpenVINO has no deformable convolution. Export the model with --dcn gather, which "
            "writes it as gathers and a matrix product."
        )
    # Not by convert_model: it sends usage statistics, and if it fails, it leaves the root logger
    # without warnings.
    try:
        return get_core().read_model(model.SerializeToString(), b"")
    except Exception as error:  # its front ends raise types of their own
        raise ExportError(
            f"OpenVINO {openvino.__version__} cannot convert the model: {error}"
        ) from error


def save_openvino(model: Any, path: Path, info: ModelInfo) -> None:
    """Write NAME.xml and NAME.bin.

    Args:
        model: an ``openvino.Model``.
        path: the .xml file.
        info: the metadata, for ``rt_info``. With the precision "float16" weights are stored as
            float16, and computed with in float32.
    """
    openvino = require_openvino()
    for key, text in info.to_strings().items():
        model.set_rt_info(text, [INFO_KEY, key])
    openvino.save_model(model, str(path), compress_to_fp16=info.precision == "float16")


def require_core() -> Any:
    """The process's ``openvino.Core``; see :func:`tood_runtime.backends.openvino.get_core`.

    Raises:
        ExportError: see :func:`require_openvino`.
    """
    require_openvino()
    return get_core()


def require_openvino() -> Any:
    """Import ``openvino``.

    Raises:
        ExportError: it is missing or too old, with the line that installs it.
    """
    what, extra = "Exporting to OpenVINO", '"tood-detectron2[openvino]"'
    return import_optional("openvino", what, extra, ExportError)
