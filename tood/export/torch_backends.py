"""Runs TorchScript and torch.export files like the files that need no PyTorch.

See :class:`tood_runtime.backends.Backend`.
"""

import os
import warnings
from pathlib import Path
from typing import Any

import torch

from tood_runtime import backends
from tood_runtime.backends.base import (
    INPUT_NAMES,
    OUTPUT_NAMES,
    Backend,
    BackendError,
    FloatArray,
    IntArray,
    Outputs,
    check_names,
    named_inputs,
    one_line,
    running,
)
from tood_runtime.image_io import printable_path
from tood_runtime.model_files import read_model_info
from tood_runtime.model_info import ModelFileError, ModelInfo

from .torch_export import open_torch_export


def open_any_backend(
    path: str | os.PathLike[str],
    *,
    runtime: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
    precision: str | None = None,
) -> Backend:
    """Load an exported model of any format.

    Args:
        path: a TorchScript (.torchscript, .ts) or torch.export (.pt2) file, or one of those that
            :func:`tood_runtime.backends.open_backend` loads.
        runtime: see there.
        device: "cpu" or "cuda" for PyTorch's files; see there for others.
        threads: number of threads of one operator; None for all cores.
        precision: see there.

    Raises:
        ModelFileError: the file is missing, or no exported model.
        BackendError: its runtime is missing, too old, or lacks the device.
        ValueError: ``runtime``, ``threads`` or ``precision`` has no such value.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in backends.PYTORCH_SUFFIXES or Path(path).is_dir():
        return backends.open_backend(
            path, runtime=runtime, device=device, threads=threads, precision=precision
        )
    if runtime is not None or precision is not None:
        raise ValueError(
            f"{suffix} files are run by PyTorch, in their own precision. Leave out runtime and "
            "precision."
        )
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}.")
    return TorchBackend(path, device, threads)


class TorchBackend:
    """A TorchScript or torch.export file.

    Args:
        path: the file.
        device: "cpu", or "cuda" for TorchScript. A torch.export file runs where it was exported.
        threads: number of threads of one operator; None for PyTorch's current number.

    Raises:
        ModelFileError: the file is missing, damaged, or not one of ours.
        BackendError: the device is missing.

    Attributes:
        info: what the file says about its model.
        name: "TorchScript" or "torch.export", and PyTorch's version.
    """

    def __init__(
        self, path: str | os.PathLike[str], device: str = "cpu", threads: int | None = None
    ) -> None:
        self._device = _require_device(device)
        self._threads = threads
        self._file = Path(path)
        is_program = Path(path).suffix.lower() == ".pt2"
        if is_program and self._device.type != "cpu":
            raise BackendError(
                f"{printable_path(Path(path))} was exported for the CPU, and torch.export files "
                f"stay there; {device!r} needs another format, such as TorchScript or ONNX."
            )
        if is_program:
            self._module, self.info = open_torch_export(path)
        else:
            self._module, self.info = open_torchscript(path, self._device)
        check_names(self._file, self.info, INPUT_NAMES, OUTPUT_NAMES.get(self.info.output, ()))
        self.name = f"{'torch.export' if is_program else 'TorchScript'} {torch.__version__}"

    def run(self, images: FloatArray, image_sizes: IntArray, original_sizes: IntArray) -> Outputs:
        """Run the model on a batch; see :meth:`tood_runtime.backends.Backend.run`."""
        arrays = named_inputs(self.info, images, image_sizes, original_sizes)
        if self.info.output == "raw":
            del arrays["original_sizes"]
        before = torch.get_num_threads()
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        try:
            # Without the optimizer, which compiles the graph again for each size of input.
            with (
                running(self._file, self.name, -1),
                torch.inference_mode(),
                torch.jit.optimized_execution(False),
            ):
                values = self._module(
                    *(torch.tensor(x, device=self._device) for x in arrays.values())
                )
                names = OUTPUT_NAMES[self.info.output]
                return {k: value.cpu().numpy() for k, value in zip(names, values, strict=True)}
        finally:
            torch.set_num_threads(before)


def open_torchscript(
    path: str | os.PathLike[str], device: torch.device | str = "cpu"
) -> tuple[Any, ModelInfo]:
    """Load a file that :func:`~tood.export.torchscript.save_torchscript` wrote.

    Returns:
        The module, and what the file says about its model.

    Raises:
        ModelFileError: the file is missing, damaged, or not one of ours.
    """
    import torchvision  # noqa: F401 (registers its operators)

    info = read_model_info(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            module = torch.jit.load(str(path), map_location=device)
    except (RuntimeError, ValueError) as error:
        raise ModelFileError(
            f"{printable_path(Path(path))} is not a TorchScript file that PyTorch "
            f"{torch.__version__} reads ({one_line(error)}). Export it again."
        ) from error
    return module, info


def _require_device(device: str) -> torch.device:
    """A device that exists.

    Raises:
        BackendError: the name is unknown, or this PyTorch lacks the device.
    """
    try:
        chosen = torch.device(device)
    except RuntimeError:
        chosen = None
    if chosen is None or chosen.type not in ("cpu", "cuda"):
        raise BackendError(f"Unknown device {device!r}. Available: cpu, cuda, cuda:N.")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise BackendError(f"PyTorch finds no device {device!r} here. Use the device cpu.")
    return chosen
