"""Write a model to a file that runs without the training code."""

import torch
from torch import Tensor, nn

from .options import ExportOptions
from .wrapper import DetectionNetwork, ExportableNetwork, RawNetwork

# What a dynamic file is traced with; any other batch and size works too.
_EXAMPLE_BATCH, _EXAMPLE_SIZE = 2, (192, 160)


def build_network(model: nn.Module, options: ExportOptions) -> ExportableNetwork:
    """The network of a file, in evaluation mode."""
    if options.raw:
        return RawNetwork(model, options.dtype).eval()
    form = "onnx" if options.format in ("onnx", "openvino") else "portable"
    return DetectionNetwork(model, options.dtype, form).eval()


def example_inputs(network: ExportableNetwork, options: ExportOptions) -> tuple[Tensor, ...]:
    """Inputs to trace with: of the fixed size and batch where there are such."""
    batch = options.batch or _EXAMPLE_BATCH
    width, height = options.size or _EXAMPLE_SIZE
    images = torch.zeros(batch, 3, height, width)
    sizes = torch.tensor([[height, width]] * batch)
    return (images, sizes, sizes)[: len(network.input_names)]
