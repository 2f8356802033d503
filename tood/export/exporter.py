"""Write a model to a file that runs without the training code, and verify the file."""

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from torch import nn

from tood_runtime.backends.base import one_line
from tood_runtime.model_info import ModelInfo
from tood_runtime.sources import collect_images

from ..errors import ExportError
from ..modeling.tracing import exporting
from .files import move_into_place
from .metadata import build_info
from .networks import (
    build_network,
    example_inputs,
    has_deform_conv,
    require_exportable,
    symbolic_sizes,
)
from .onnx import save_onnx, to_onnx
from .openvino import save_openvino, to_openvino
from .options import ExportOptions
from .quantize import FileKind, quantize, require_packages
from .torch_export import save_torch_export, to_torch_export
from .torchscript import save_torchscript, to_torchscript
from .verify import VerificationReport, report_path, verify_export, write_report

ImagePaths = Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class ExportResult:
    """An exported file.

    Attributes:
        path: the file; an OpenVINO file has its .bin next to it.
        info: what it says about itself.
        report: of its verification; None without one.
    """

    path: Path
    info: ModelInfo
    report: VerificationReport | None


class VerificationError(ExportError):
    """An exported file does not do what the model does; it was removed.

    Attributes:
        report: what was compared.
    """

    def __init__(self, message: str, report: VerificationReport) -> None:
        super().__init__(message)
        self.report = report


def export_model(
    model: nn.Module,
    cfg: CfgNode,
    output: str | os.PathLike[str],
    options: ExportOptions | None = None,
    *,
    name: str = "TOOD",
    weights: str | None = None,
    images: ImagePaths | None = None,
    calibration_images: ImagePaths | None = None,
    verify: bool = True,
    inspect: Callable[[Path], None] | None = None,
) -> ExportResult:
    """Export a model, and compare the file with it before the file gets its name.

    Nothing is left behind if something fails.

    Args:
        model: a TOOD in evaluation mode, in float32 and on the CPU. It is not changed.
        cfg: the config that it was built from.
        output: the file to write; it replaces an existing one.
        options: of the file; by default ONNX with NMS, in float32, of any batch and size.
        name: of the model, for the metadata.
        weights: local file of its weights, for the metadata.
        images: files, folders or glob patterns to verify with; images are drawn where these are
            too few.
        calibration_images: image files to quantize an int8 file with.
        verify: compare the file with the model.
        inspect: called with the verified file before it gets its name.

    Returns:
        The file and the report.

    Raises:
        ExportError: the model cannot be exported as asked, a package is missing, or the output
            cannot be written.
        VerificationError: the file does not do what the model does.
    """
    options = options or ExportOptions()
    require_exportable(model)
    options.require_opset(has_deform_conv(model))
    output = _validate_output(Path(output), options)
    if verify and images is not None:
        images = collect_images(images)
    info = build_info(model, cfg, options, name=name, weights=weights)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".export-") as folder:
        file = Path(folder, output.name)
        info = _write_file(model, info, file, options, calibration_images)
        report = None
        if verify:
            report = verify_export(file, model, cfg, images=images)
            report = replace(report, path=output)
            if not report.passed:
                raise VerificationError(
                    f"{output} could not be verified, so it was not written.", report
                )
        if inspect is not None:
            inspect(file)
        report_path(output).unlink(missing_ok=True)  # of an earlier file
        move_into_place(file, output)
    if report is not None:
        write_report(output, report)
    return ExportResult(output, info, report)


def _validate_output(output: Path, options: ExportOptions) -> Path:
    """Check the name of the file before the work.

    Raises:
        ExportError: it is a folder, has another suffix, or its folder cannot be written.
    """
    if output.is_dir():
        raise ExportError(
            f"{output} is a folder. Name a file in it, such as {output / f'model{options.suffix}'}"
        )
    if output.suffix != options.suffix:
        raise ExportError(
            f"{output} does not end in {options.suffix}, as {options.format} files do. Rename it, "
            "or choose another --format."
        )
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(
            f"The folder {output.parent} cannot be created: {error.strerror}"
        ) from error
    if not os.access(output.parent, os.W_OK):
        raise ExportError(f"The folder {output.parent} is not writable. Choose another one.")
    return output


def _write_file(
    model: nn.Module,
    info: ModelInfo,
    file: Path,
    options: ExportOptions,
    calibration_images: ImagePaths | None,
) -> ModelInfo:
    """Write the file, and return what it says about itself."""
    if options.precision == "int8":
        return _write_int8(model, info, file, options, calibration_images)
    traced = _trace(model, options)
    if options.format == "onnx":
        save_onnx(traced, file, info)
        return info
    save = {
        "openvino": save_openvino,
        "torchscript": save_torchscript,
        "torch-export": save_torch_export,
    }[options.format]
    try:
        save(traced, file, info)
    except RuntimeError as error:  # where others raise an OSError
        message = f"{file.name} cannot be written: {one_line(error)}. Is the disk full?"
        raise ExportError(message) from error
    return info


def _trace(model: nn.Module, options: ExportOptions) -> Any:
    """The model in the form that the format's ``save`` function takes."""
    network = build_network(model, options)
    inputs, sizes = example_inputs(network, options), symbolic_sizes(options)
    gather = options.deform_conv == "gather" or options.format == "openvino"
    with exporting("gather" if gather else "torchvision"):
        if options.format == "torchscript":
            return to_torchscript(network, inputs)
        if options.format == "torch-export":
            return to_torch_export(network, inputs, sizes)
        graph = to_onnx(network, inputs, options.opset, sizes)
    return to_openvino(graph) if options.format == "openvino" else graph


def _write_int8(
    model: nn.Module,
    info: ModelInfo,
    file: Path,
    options: ExportOptions,
    calibration_images: ImagePaths | None,
) -> ModelInfo:
    if not calibration_images:
        raise ExportError(
            "int8 needs images like those that the model will see, to measure its activations. "
            "Name a folder of at least 32: --calibration-images FOLDER"
        )
    kind: FileKind = "onnx" if options.format == "onnx" else "openvino"
    require_packages(kind)  # before the trace, which takes longer
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        float_file = Path(folder, file.name)
        float_info = replace(info, precision="float32")
        float_options = replace(options, precision="float32")
        _write_file(model, float_info, float_file, float_options, None)
        return quantize(float_file, file, kind=kind, images=calibration_images, info=float_info)
