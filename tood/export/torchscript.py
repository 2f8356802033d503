"""TorchScript files: PyTorch's legacy format, which C++ programs and detectron2's users load."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tood_runtime.model_info import ModelInfo

from .quiet import quiet
from .wrapper import ExportableNetwork


def to_torchscript(network: ExportableNetwork, inputs: tuple[Tensor, ...]) -> Any:
    """Trace a network; the result takes any batch and size.

    Call it within :func:`tood.modeling.tracing.exporting`.

    Args:
        network: in evaluation mode.
        inputs: examples of its inputs.

    Returns:
        The ``torch.jit.ScriptModule``, frozen.
    """
    # The tracer warns of sizes that it calls constant: channels, which are constant.
    with torch.no_grad(), quiet("torch.jit"):
        # check_trace would compare a second trace on the same inputs; verification runs others.
        return torch.jit.freeze(torch.jit.trace(network, inputs, check_trace=False))


def save_torchscript(module: Any, path: Path, info: ModelInfo) -> None:
    """Write a traced network with its metadata, one extra file per key."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.save(module, str(path), _extra_files=info.to_strings())
