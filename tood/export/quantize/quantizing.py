"""From a file in float32 to one in int8."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Literal

from tood_runtime.missing_packages import import_optional
from tood_runtime.model_info import ModelInfo

from ...errors import ExportError
from ..files import move_into_place
from ..onnx import require_onnx, save_onnx
from ..openvino import require_core, save_openvino
from .calibration import CalibrationBatches, select_images
from .onnx_static import quantize_onnx
from .openvino_nncf import quantize_openvino
from .settings import DEFAULTS, QuantizationSettings

FileKind = Literal["onnx", "openvino"]

_PACKAGES = {"onnx": ("onnx", "onnxruntime"), "openvino": ("openvino", "nncf")}


def quantize(
    float_path: str | os.PathLike[str],
    output_path: str | os.PathLike[str],
    *,
    kind: FileKind,
    images: Sequence[str | os.PathLike[str]],
    info: ModelInfo,
    num_images: int = 64,
    settings: QuantizationSettings | None = None,
) -> ModelInfo:
    """Write an int8 version of an exported file.

    Backbone, FPN and the head's stacks of convolutions are computed in int8, the rest in float32.
    The result takes any batch and size that the float file takes.

    Args:
        float_path: a float32 file of this project: .onnx, or .xml with its .bin.
        output_path: the file to write; an OpenVINO file gets its .bin next to it. It appears when
            it is complete.
        kind: "onnx" or "openvino".
        images: files to calibrate with, like those that the model will see.
        info: what the float file says about its model.
        num_images: how many of the images are used, evenly chosen. 32 or more are recommended.
        settings: by default :data:`DEFAULTS` of the kind of file.

    Returns:
        What the new file says about its model.

    Raises:
        ExportError: a package is missing, the file is not in float32, or there are no images that
            can be read.
        ValueError: a setting that this kind of file does not have.
    """
    if kind not in _PACKAGES:
        raise ExportError(f"Files of {kind!r} have no int8. Available: {', '.join(_PACKAGES)}")
    require_packages(kind)
    if info.precision != "float32":
        raise ExportError(
            f"{os.fspath(float_path)} is in {info.precision}. Quantize a file in float32."
        )
    settings = settings or DEFAULTS[kind]
    chosen = select_images(images, num_images)
    names = {name: metadata.version(name) for name in _PACKAGES[kind]}
    new_info = replace(info, precision="int8", versions={**info.versions, **names})
    output = Path(output_path)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".quantize-") as folder:
        file = Path(folder, output.name)
        write = _write_onnx if kind == "onnx" else _write_openvino
        write(Path(float_path), file, chosen, new_info, settings)
        move_into_place(file, output)
    return new_info


def require_packages(kind: FileKind) -> None:
    """Import what quantizes files of a kind.

    Raises:
        ExportError: a package is missing or too old, with the line that installs it.
    """
    for package in _PACKAGES[kind]:
        what = f"int8 for {kind} files"
        import_optional(package, what, '"tood-detectron2[quantize]"', ExportError)


def _write_onnx(
    float_path: Path,
    file: Path,
    images: Sequence[Path],
    info: ModelInfo,
    settings: QuantizationSettings,
) -> None:
    model = require_onnx().load(str(float_path))
    names = [value.name for value in model.graph.input]
    feeds = CalibrationBatches(images, info, names)
    save_onnx(quantize_onnx(model, feeds, settings), file, info)


def _write_openvino(
    float_path: Path,
    file: Path,
    images: Sequence[Path],
    info: ModelInfo,
    settings: QuantizationSettings,
) -> None:
    model = require_core().read_model(str(float_path))
    names = [value.get_any_name() for value in model.inputs]
    feeds = CalibrationBatches(images, info, names)
    save_openvino(quantize_openvino(model, feeds, settings), file, info)
