"""Model complexity by part: parameters, and FLOPs for a given image size (``tood info``).

How FLOPs are counted: one multiply-add of a convolution or matrix product is one FLOP (so G means
GMAC), each bias adds one FLOP and each normalization two per output element. Counted like this,
T-head has the 100.79 G of the paper's Table 1. Activations, pooling, upsampling, box decoding and
the sampling of deformable convolutions are not counted. Parameters include those of frozen batch
norms, as in MMDetection; running statistics never count.
"""

from collections import Counter
from collections.abc import Callable

import torch
from detectron2.layers import FrozenBatchNorm2d
from fvcore.nn import FlopCountAnalysis
from fvcore.nn.jit_handles import bmm_flop_jit, conv_flop_jit, get_shape, matmul_flop_jit
from torch import Tensor, nn

from ..errors import ConfigError
from ..modeling.dense_detector import find_dense_core
from ..modeling.meta_arch import TOOD

# Of the table that describe() makes.
COLUMNS = ["", "params M", "trainable M", "conv + matmul G", "norm G", "bias G", "FLOPs G"]
FLOAT_FORMATS = ["", ".3f", ".3f", ".3f", ".3f", ".3f", ".2f"]


def count_parameters(module: nn.Module) -> tuple[int, int]:
    """Number of parameters, frozen batch norms included, and of trainable parameters."""
    parameters = list(module.parameters())
    # Frozen batch norms keep their affine parameters in buffers.
    frozen = sum(
        norm.weight.numel() + norm.bias.numel()
        for norm in module.modules()
        if isinstance(norm, FrozenBatchNorm2d)
    )
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    return sum(p.numel() for p in parameters) + frozen, trainable


def _count_conv(inputs: list, outputs: list) -> Counter[str]:
    counts = Counter(conv_flop_jit(inputs, outputs))
    if inputs[2].type().kind() != "NoneType":
        counts["bias"] = torch.Size(get_shape(outputs[0])).numel()
    return counts


def _count_linear(inputs: list, outputs: list) -> Counter[str]:
    size = torch.Size(get_shape(outputs[0])).numel()
    counts = Counter(matmul=size * get_shape(inputs[1])[1])
    if inputs[2].type().kind() != "NoneType":
        counts["bias"] = size
    return counts


def _count_attention(inputs: list, outputs: list) -> Counter[str]:
    """Count the products of queries (..., L, E) with keys (..., S, E), and of both with values."""
    query, key = get_shape(inputs[0]), get_shape(inputs[1])
    scores = torch.Size(query[:-1]).numel() * key[-2]
    return Counter(matmul=scores * (query[-1] + get_shape(inputs[2])[-1]))


def _count_deform_conv(inputs: list, outputs: list) -> Counter[str]:
    """Count the matrix product with the samples; without a bias, torchvision adds zeros."""
    weight, out = get_shape(inputs[1]), torch.Size(get_shape(outputs[0]))
    counts = Counter(matmul=out.numel() * torch.Size(weight[1:]).numel())
    if inputs[4].node().kind() != "aten::zeros":
        counts["bias"] = out.numel()
    return counts


def _count_add(inputs: list, outputs: list) -> Counter[str]:
    """Count a bias that is added separately: a (C, 1, 1) tensor plus a map."""
    shape, channels = get_shape(outputs[0]), get_shape(inputs[1])
    is_bias = channels is not None and len(shape) == 4 and channels == [shape[1], 1, 1]
    return Counter(bias=torch.Size(shape).numel()) if is_bias else Counter()


def _count_norm(inputs: list, outputs: list) -> Counter[str]:
    return Counter(norm=2 * torch.Size(get_shape(outputs[0])).numel())


def _as_matmul(handle: Callable[[list, list], Counter | int]) -> Callable[[list, list], Counter]:
    """Report a handle's count under "matmul"."""

    def count(inputs: list, outputs: list) -> Counter[str]:
        result = handle(inputs, outputs)
        return Counter(matmul=sum(result.values()) if isinstance(result, Counter) else result)

    return count


_HANDLES = {
    "aten::_convolution": _count_conv,
    "aten::add": _count_add,
    "aten::linear": _count_linear,
    "aten::scaled_dot_product_attention": _count_attention,
    "aten::matmul": _as_matmul(matmul_flop_jit),
    "aten::bmm": _as_matmul(bmm_flop_jit),
    "aten::batch_norm": _count_norm,
    "aten::group_norm": _count_norm,
    "aten::layer_norm": _count_norm,
    "torchvision::deform_conv2d": _count_deform_conv,
}


def _analyze(module: nn.Module, *inputs: Tensor) -> FlopCountAnalysis:
    analysis = FlopCountAnalysis(module, inputs)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return analysis.tracer_warnings("none").clear_op_handles().set_op_handle(**_HANDLES)


def count_flops(module: nn.Module, *inputs: Tensor) -> Counter[str]:
    """FLOPs of one call of a module, by kind: "conv", "matmul", "norm", "bias"."""
    return _analyze(module, *inputs).by_operator()


class _Predict(nn.Module):
    """Backbone and ``predict`` of a model as a ``forward``, which the tracer needs."""

    def __init__(self, model: TOOD) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> list[Tensor]:
        """Normalized image (1, 3, H, W) -> all predicted maps."""
        _, predictions = self.model.predict(self.model.backbone(image))
        return [level for levels in predictions if levels is not None for level in levels]


def _require_dense_core(model: nn.Module) -> None:
    if find_dense_core(model) is not model:
        raise ConfigError(
            f"Cannot count the FLOPs of {type(model).__name__}. Use a config with "
            "MODEL.META_ARCHITECTURE TOOD."
        )


@torch.no_grad()
def _flops_by_module(model: TOOD, size: tuple[int, int]) -> dict[str, Counter[str]]:
    """FLOPs for one image of (width, height), padded as the model pads it, by module name."""
    _require_dense_core(model)
    width, height = size
    image = model.preprocess_image([{"image": torch.zeros(3, height, width)}]).tensor
    by_module = _analyze(_Predict(model), image).by_module_and_operator()
    return {name.removeprefix("model."): flops for name, flops in by_module.items()}


def count_parts(model: TOOD, size: tuple[int, int]) -> dict[str, Counter[str]]:
    """FLOPs of each part of a model for one image.

    Args:
        model: with an FPN.
        size: (width, height) of the image in pixels.

    Returns:
        What :func:`count_flops` returns, for "backbone", "FPN", "head" and "model".

    Raises:
        ConfigError: the model is of another kind.
    """
    modules = _flops_by_module(model, size)
    bottom_up, backbone = modules["backbone.bottom_up"], modules["backbone"]
    parts = {"backbone": bottom_up, "FPN": backbone - bottom_up, "head": modules["head"]}
    return {**parts, "model": backbone + modules["head"]}


def count_training_flops(model: TOOD, size: tuple[int, int]) -> Counter[str]:
    """FLOPs of a forward and backward pass for one image.

    The backward pass computes two products per forward product: the gradients of input and weight.
    The frozen first stages of the backbone have no backward pass.

    Args:
        model: see :func:`count_parts`.
        size: (width, height) of the image in pixels.
    """
    modules = _flops_by_module(model, size)
    total: Counter[str] = Counter()
    for name in ("backbone", "head"):
        total.update({kind: 3 * n for kind, n in modules[name].items()})
    for name, child in model.backbone.bottom_up.named_children():
        if not any(p.requires_grad for p in child.parameters()):
            frozen = modules[f"backbone.bottom_up.{name}"]
            total.subtract({kind: 2 * n for kind, n in frozen.items()})
    return total


def describe(model: TOOD, size: tuple[int, int]) -> list[list]:
    """Complexity of a model as the rows of a table; see :data:`COLUMNS` and :data:`FLOAT_FORMATS`.

    Args:
        model: see :func:`count_parts`.
        size: (width, height) of the image in pixels.

    Returns:
        For each part its name, its parameters in millions and its FLOPs in billions.

    Raises:
        ConfigError: the model is of another kind.
    """
    _require_dense_core(model)
    bottom_up = count_parameters(model.backbone.bottom_up)
    backbone = count_parameters(model.backbone)
    parameters = {
        "backbone": bottom_up,
        "FPN": (backbone[0] - bottom_up[0], backbone[1] - bottom_up[1]),
        "head": count_parameters(model.head),
        "model": count_parameters(model),
    }
    rows: list[list] = []
    for name, flops in count_parts(model, size).items():
        kinds = [flops["conv"] + flops["matmul"], flops["norm"], flops["bias"]]
        counts = [n / 1e6 for n in parameters[name]] + [n / 1e9 for n in (*kinds, sum(kinds))]
        rows.append([name, *counts])
    return rows
