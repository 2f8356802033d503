"""Runtimes of exported models. Each is imported when a file needs it."""

import os
from pathlib import Path

from ..image_io import printable_path
from ..model_info import ModelFileError
from .base import Backend, BackendError
from .onnxruntime import ONNXRuntimeBackend
from .openvino import PRECISIONS, OpenVINOBackend

__all__ = [
    "PYTORCH_SUFFIXES",
    "Backend",
    "BackendError",
    "ONNXRuntimeBackend",
    "OpenVINOBackend",
    "open_backend",
]

# The runtimes of each kind of file; the first is the default.
_RUNTIMES = {".onnx": ("onnxruntime", "openvino"), ".xml": ("openvino",)}
#: Files that tood.export runs with PyTorch.
PYTORCH_SUFFIXES = (".ts", ".torchscript", ".pt2")


def open_backend(
    path: str | os.PathLike[str],
    *,
    runtime: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
    precision: str | None = None,
) -> Backend:
    """Load an exported model.

    Args:
        path: an ONNX file (.onnx) or an OpenVINO file (.xml, with its .bin next to it).
        runtime: "onnxruntime" or "openvino", which reads ONNX files too; by default the one of the
            file's kind.
        device: "cpu"; with ONNX Runtime also "cuda" and "cuda:N", with OpenVINO what it finds.
        threads: number of threads of one operator; None for all cores.
        precision: of OpenVINO's computation: "float32", "bfloat16" or "float16" (or its own "f32",
            "bf16", "f16"); float32 by default.

    Raises:
        ModelFileError: the file is missing, or no exported model.
        BackendError: its runtime is missing, too old, or lacks the device, or one of the options
            has no such value.
    """
    if threads is not None and threads < 1:
        raise BackendError(f"threads must be at least 1, got {threads}.")
    if precision is not None and precision not in PRECISIONS:
        raise BackendError(f"Unknown precision {precision!r}. Available: {', '.join(PRECISIONS)}.")
    suffix = Path(path).suffix.lower()
    if suffix not in _RUNTIMES or Path(path).is_dir():
        raise ModelFileError(_unknown_kind(Path(path), suffix))
    runtime = runtime or _RUNTIMES[suffix][0]
    if runtime not in _RUNTIMES[suffix]:
        raise BackendError(
            f"Unknown runtime {runtime!r} for {suffix} files. "
            f"Available: {', '.join(_RUNTIMES[suffix])}."
        )
    if runtime == "openvino":
        return OpenVINOBackend(path, device, threads, precision)
    if precision is not None:
        raise BackendError(
            "precision is a setting of OpenVINO. ONNX Runtime computes in the precision of the "
            "file: export with --half for a smaller one."
        )
    return ONNXRuntimeBackend(path, device, threads)


def _unknown_kind(path: Path, suffix: str) -> str:
    name = printable_path(path)
    if path.is_dir():
        return f"{name} is a folder. Name the model file in it."
    if suffix == ".bin" and path.with_suffix(".xml").is_file():
        return f"{name} has only weights. Name {printable_path(path.with_suffix('.xml'))}."
    if suffix in PYTORCH_SUFFIXES:
        return f"{name} needs PyTorch, which this runner does without. Use: tood detect"
    return f"{name} is of no known kind. Available: .onnx (ONNX Runtime), .xml (OpenVINO)."
