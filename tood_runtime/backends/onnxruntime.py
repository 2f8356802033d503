"""ONNX files, run by ONNX Runtime."""

import mmap
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from ..image_io import printable_path
from ..missing_packages import import_optional
from ..model_info import ModelFileError
from .base import (
    BackendError,
    FloatArray,
    IntArray,
    Outputs,
    check_names,
    find_file,
    named_inputs,
    one_line,
    read_info,
    running,
)

# The first version with the operator DeformConv.
MIN_VERSION_FOR_DEFORM_CONV = (1, 25)
# How a protobuf file spells a node's operator: field 4, 10 bytes long.
_DEFORM_CONV_NODE = b"\x22\x0aDeformConv"
# What its messages start with: a number, its name, and the file.
_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (?:Load model from .+? failed:)?")
_DEVICE = re.compile(r"cpu|cuda(?::(\d+))?")


class ONNXRuntimeBackend:
    """An ONNX file in a session of ONNX Runtime.

    Args:
        path: the file.
        device: "cpu", "cuda" or "cuda:N".
        threads: number of threads of one operator; None for all cores.

    Raises:
        ModelFileError: the file is missing, no ONNX file, or not one of ours.
        BackendError: onnxruntime is missing, too old for this file, or lacks the device.

    Attributes:
        info: what the file says about its model.
        name: "ONNX Runtime" and its version.
    """

    def __init__(
        self, path: str | os.PathLike[str], device: str = "cpu", threads: int | None = None
    ) -> None:
        file = find_file(path)
        runtime = _import_onnxruntime(file)
        _require_deform_conv(file, runtime.__version__)
        options = runtime.SessionOptions()
        # What fails is raised; the runtime would log it a second time.
        options.log_severity_level = 4
        if threads is not None:
            options.intra_op_num_threads = threads
        providers = _providers(device, runtime.get_available_providers())
        try:
            self._session = runtime.InferenceSession(os.fspath(file), options, providers=providers)
        except Exception as error:  # the runtime has a type of its own for each status
            raise _explain(error, file, runtime.__version__) from error
        if device != "cpu" and "CUDAExecutionProvider" not in self._session.get_providers():
            # The runtime falls back to the CPU with a log message.
            raise BackendError(
                f"ONNX Runtime cannot use {device!r}: its CUDA libraries do not load. Install CUDA "
                "and cuDNN of the versions that onnxruntime-gpu names, or use the device cpu."
            )
        self.name = f"ONNX Runtime {runtime.__version__}"
        self._file = file
        self.info = read_info(file, lambda: dict(self._session.get_modelmeta().custom_metadata_map))
        self._inputs = [item.name for item in self._session.get_inputs()]
        self._outputs = [item.name for item in self._session.get_outputs()]
        check_names(file, self.info, self._inputs, self._outputs)

    def run(self, images: FloatArray, image_sizes: IntArray, original_sizes: IntArray) -> Outputs:
        """Run the model on a batch; see :meth:`tood_runtime.backends.Backend.run`."""
        arrays = named_inputs(self.info, images, image_sizes, original_sizes)
        with running(self._file, self.name):
            values = self._session.run(self._outputs, {name: arrays[name] for name in self._inputs})
        return {name: np.asarray(value) for name, value in zip(self._outputs, values, strict=True)}


def _import_onnxruntime(file: Path) -> Any:
    return import_optional("onnxruntime", printable_path(file), raising=BackendError)


def _providers(device: str, available: list[str]) -> list[Any]:
    """Execution providers in the order of preference.

    Raises:
        BackendError: the device is unknown or this onnxruntime lacks it.
    """
    match = _DEVICE.fullmatch(device)
    if match is None:
        raise BackendError(f"Unknown device {device!r}. Available: cpu, cuda, cuda:N.")
    if device == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in available:
        raise BackendError(
            f"This onnxruntime cannot use {device!r}: it has {', '.join(available)}. Install "
            "onnxruntime-gpu instead of onnxruntime, or use the device cpu."
        )
    return [("CUDAExecutionProvider", {"device_id": match[1] or "0"}), "CPUExecutionProvider"]


def _require_deform_conv(file: Path, version: str) -> None:
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers < MIN_VERSION_FOR_DEFORM_CONV and _has_deform_conv(file):
        raise _no_deform_conv(file, version)


def _no_deform_conv(file: Path, version: str) -> BackendError:
    needed = ".".join(map(str, MIN_VERSION_FOR_DEFORM_CONV))
    return BackendError(
        f"{printable_path(file)} has deformable convolutions, which ONNX Runtime runs from "
        f"{needed} on; this one is {version}. Install a newer one: "
        f'pip install "onnxruntime>={needed}", or export the model with --dcn gather'
    )


def _has_deform_conv(file: Path) -> bool:
    with open(file, "rb") as stream:
        if not os.fstat(stream.fileno()).st_size:
            return False
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return data.find(_DEFORM_CONV_NODE) >= 0


def _explain(error: Exception, file: Path, version: str) -> ModelFileError:
    """Say in one line why a session could not be created."""
    name, reason = printable_path(file), _PREFIX.sub("", one_line(error))
    # Of an empty file, in the words of two versions.
    has_no_graph = "No graph was found" in reason or "not have a graph" in reason
    if type(error).__name__ == "InvalidProtobuf" or has_no_graph:
        return ModelFileError(f"{name} is not an ONNX file, or it is cut off. Export it again.")
    if "DeformConv" in reason:
        return _no_deform_conv(file, version)
    return ModelFileError(
        f"ONNX Runtime {version} cannot load {name}: {reason}. A newer version may: "
        "pip install -U onnxruntime"
    )
