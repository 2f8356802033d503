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
        module = torch.jit.freeze(torch.jit.trace(network, inputs, check_trace=False))
    _follow_device(module.graph)
    return module


def _follow_device(graph: Any) -> None:
    """Create tensors on the device of the first input.

    The tracer writes the device that it runs on into the graph, and the file would run there only.
    """
    images = list(graph.inputs())[1]  # after the module itself
    device = graph.create("prim::device", [images])
    device.output().setType(torch._C.DeviceObjType.get())
    graph.prependNode(device)
    for constant in graph.findAllNodes("prim::Constant"):
        if constant.output().type().kind() == "DeviceObjType":
            constant.output().replaceAllUsesWith(device.output())


def save_torchscript(module: Any, path: Path, info: ModelInfo) -> None:
    """Write a traced network with its metadata, one extra file per key."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.save(module, str(path), _extra_files=info.to_strings())
