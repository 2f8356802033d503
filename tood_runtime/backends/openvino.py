"""OpenVINO files, NAME.xml with their weights in NAME.bin, and ONNX files, run by OpenVINO."""

import logging
import os
import threading
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

logger = logging.getLogger(__name__)

#: Where the metadata is in the model's ``rt_info``.
INFO_KEY = "tood"
# Where OpenVINO puts the metadata of an ONNX file that it reads.
_ONNX_KEY = "framework"
#: OpenVINO's names of the precisions that it computes in, by ours and by its own.
PRECISIONS = {
    **{"float32": "f32", "bfloat16": "bf16", "float16": "f16"},
    **{name: name for name in ("f32", "bf16", "f16")},
}

_core: Any = None
_core_lock = threading.Lock()


def get_core() -> Any:
    """The ``openvino.Core`` that all of this process share and that is never destroyed.

    When a core loads the plugin for CPUs, that changes the stack for signal handlers of its thread.
    If a second core outlives the first one, or another thread destroys a core, that stack is freed
    memory, and the next signal with a handler in Python, such as the end of a child process, is a
    segmentation fault (OpenVINO 2026.4).

    Raises:
        ImportError: openvino is not installed.
    """
    global _core
    import openvino

    with _core_lock:
        if _core is None:
            _core = openvino.Core()
    return _core


class OpenVINOBackend:
    """A model, compiled by OpenVINO for a device.

    Args:
        path: an .xml file with the .bin file next to it, or an ONNX file.
        device: "cpu", or another device that OpenVINO finds, such as "gpu" (Intel's).
        threads: number of threads; None for all cores.
        precision: of the computation: "float32", "bfloat16" or "float16" (or OpenVINO's "f32",
            "bf16", "f16"); float32 by default, also of files that store float16. OpenVINO itself
            would silently choose bfloat16 on a CPU that has it.

    Raises:
        ModelFileError: a file is missing, or no OpenVINO file of ours.
        BackendError: openvino is missing, or lacks the device.

    Attributes:
        info: what the file says about its model.
        name: "OpenVINO" and its version.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        device: str = "cpu",
        threads: int | None = None,
        precision: str | None = None,
    ) -> None:
        file = find_file(path)
        _require_weights(file)
        openvino = _import_openvino(file)
        core = get_core()
        _require_device(device, core.available_devices)
        try:
            model = core.read_model(os.fspath(file))
        except Exception as error:  # whatever its readers raise
            raise _explain(error, file, openvino.__version__) from error
        self._file = file
        self.info = read_info(file, lambda: read_metadata(model))
        self._inputs = [item.get_any_name() for item in model.inputs]
        self._outputs = [item.get_any_name() for item in model.outputs]
        check_names(file, self.info, self._inputs, self._outputs)
        # A lower one would decode boxes in it too, and move them by pixels. int8 files compute in
        # float32 what they do not quantize.
        wanted = PRECISIONS[precision or "float32"]
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": wanted}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        try:
            self._model = core.compile_model(model, device.upper(), settings)
        except Exception as error:  # whatever its plugins raise
            raise BackendError(
                f"OpenVINO cannot compile {printable_path(file)} for {device}: "
                f"{one_line(error, -1)}"
            ) from error
        actual = self._model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if precision is not None and actual != wanted:
            logger.warning("OpenVINO computes in %s: this device has no fast %s.", actual, wanted)
        self._requests = threading.local()  # one serves one thread at a time
        self.name = f"OpenVINO {_short(openvino.__version__)}"

    def run(self, images: FloatArray, image_sizes: IntArray, original_sizes: IntArray) -> Outputs:
        """Run the model on a batch; see :meth:`tood_runtime.backends.Backend.run`."""
        arrays = named_inputs(self.info, images, image_sizes, original_sizes)
        request = getattr(self._requests, "own", None)
        if request is None:
            request = self._requests.own = self._model.create_infer_request()
        inputs = [np.ascontiguousarray(arrays[name]) for name in self._inputs]
        with running(self._file, self.name, -1):
            values = request.infer(inputs, share_inputs=True)
        # Copied by OpenVINO, so that the next batch does not overwrite them.
        return {name: np.asarray(values[i]) for i, name in enumerate(self._outputs)}


def _require_weights(file: Path) -> None:
    weights = file.with_suffix(".bin")
    if file.suffix.lower() == ".xml" and not weights.is_file():
        raise ModelFileError(
            f"{printable_path(file)} has its weights in {weights.name}, which is missing. Put both "
            "files into one folder, or export the model again."
        )


def read_metadata(model: Any) -> dict[str, str]:
    """The texts that :meth:`ModelInfo.to_strings` gave, from an ``openvino.Model``."""
    for key in (INFO_KEY, _ONNX_KEY):
        if model.has_rt_info([key]):
            return {name: str(value.value) for name, value in dict(model.rt_info[key]).items()}
    return {}


def _import_openvino(file: Path) -> Any:
    return import_optional("openvino", printable_path(file), raising=BackendError)


def _short(version: str) -> str:
    """Without the number of the build."""
    return version.split("-")[0]


def _explain(error: Exception, file: Path, version: str) -> ModelFileError:
    """Say in one line why a file could not be read."""
    # Its messages start with places in its source, and end with the reason.
    name, reason = printable_path(file), one_line(error, -1).removeprefix("-- ")
    if "DeformConv" in reason:
        return BackendError(
            f"{name} has deformable convolutions, which OpenVINO {_short(version)} cannot run. Use "
            "ONNX Runtime, or export the model with --dcn gather."
        )
    return ModelFileError(
        f"OpenVINO {_short(version)} cannot read {name}: {reason}. Export it again."
    )


def _require_device(device: str, available: list[str]) -> None:
    if device.upper() not in [*available, *(name.split(".")[0] for name in available)]:
        shown = ", ".join(name.lower() for name in available)
        raise BackendError(f"OpenVINO has no device {device!r} here. Available: {shown}.")
