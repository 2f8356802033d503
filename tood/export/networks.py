"""Which network an export traces, and with what inputs."""

import torch
from torch import Tensor, nn

from ..errors import ExportError
from ..modeling import find_dense_core
from ..modeling.layers import DeformConv, ModulatedDeformConv
from .options import ExportOptions
from .wrapper import DetectionNetwork, ExportableNetwork, RawNetwork

# What a dynamic file is traced with; any other batch and size works too. No side is a multiple of
# the stride: torch.export would leave out a padding of 0, and be wrong for all sizes that need one.
_EXAMPLE_BATCH, _EXAMPLE_SIZE = 2, (180, 150)


def require_exportable(model: nn.Module) -> None:
    """Check that a model is one of this project, in evaluation mode and on the CPU.

    Raises:
        ExportError: it is not.
    """
    core = find_dense_core(model)
    if core is None or core is not model or not hasattr(model, "backbone"):
        raise ExportError(
            f"A {type(model).__name__} cannot be exported. Use a config with "
            "MODEL.META_ARCHITECTURE TOOD."
        )
    if model.training:
        raise ExportError("The model is in training mode. Call model.eval() before exporting it.")
    if model.device.type != "cpu":
        raise ExportError(
            f"The model is on {model.device}. Move it to the CPU before exporting it: the file "
            "runs anywhere."
        )


def has_deform_conv(model: nn.Module) -> bool:
    """Whether a model has deformable convolutions."""
    return any(isinstance(m, DeformConv | ModulatedDeformConv) for m in model.modules())


def build_network(model: nn.Module, options: ExportOptions) -> ExportableNetwork:
    """The network of a file, in evaluation mode."""
    if options.raw:
        return RawNetwork(model, options.dtype).eval()
    is_onnx = options.format in ("onnx", "openvino")
    return DetectionNetwork(model, options.dtype, "onnx" if is_onnx else "portable").eval()


def example_inputs(network: ExportableNetwork, options: ExportOptions) -> tuple[Tensor, ...]:
    """Inputs to trace with: of the fixed size and batch where there are such."""
    batch = options.batch or _EXAMPLE_BATCH
    width, height = options.size or _EXAMPLE_SIZE
    images = torch.zeros(batch, len(network.pixel_mean), height, width)
    sizes = torch.tensor([[height, width]] * batch)
    return (images, sizes, sizes)[: len(network.input_names)]


def symbolic_sizes(options: ExportOptions) -> set[str]:
    """The sizes that stay open: of "batch", "height" and "width"."""
    sizes = set() if options.batch is not None else {"batch"}
    return sizes if options.size is not None else sizes | {"height", "width"}
