"""Size of models by part: parameters, and multiply-adds at a given size of the image.

tools/model_info.py                                     # all published models, 1280x800
tools/model_info.py configs/TOOD-R50-1x.yaml --size 1333x800

How it is counted: one multiply-add of a convolution or matrix product is one FLOP (so G are GMAC),
each bias adds one and each normalization two per element of its output. That is the counting that
gives the 100.79 G of the paper's Table 1 for T-head. Activations, pooling, upsampling, decoding and
the sampling of deformable convolutions are not counted. "in all" counts what frozen batch norms
hold as parameters too, as MMDetection does; running statistics never count.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import tood  # noqa: F401  (before the others: it explains what is missing)

# isort: split
import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from fvcore.nn import FlopCountAnalysis
from fvcore.nn.jit_handles import bmm_flop_jit, conv_flop_jit, get_shape, matmul_flop_jit
from tabulate import tabulate
from torch import Tensor, nn

from tood.config.loading import load_config
from tood.errors import exit_on_user_error
from tood.modeling import TOOD

ROOT = Path(__file__).resolve().parents[2]


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("configs", nargs="*", help="config files; the published models by default")
    parser.add_argument("--size", type=image_size, default=(1280, 800), help="width x height")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ...")
    return parser.parse_args()


def count_parameters(module: nn.Module) -> tuple[int, int]:
    """Parameters in all, frozen batch norms' included, and those that train."""
    parameters = list(module.parameters())
    frozen = sum(
        norm.weight.numel() + norm.bias.numel()
        for norm in module.modules()
        if isinstance(norm, FrozenBatchNorm2d)
    )
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    return sum(p.numel() for p in parameters) + frozen, trainable


def _count_conv(inputs: list, outputs: list) -> Counter:
    counts = Counter(conv_flop_jit(inputs, outputs))
    if inputs[2].type().kind() != "NoneType":
        counts["bias"] = torch.Size(get_shape(outputs[0])).numel()
    return counts


def _count_add(inputs: list, outputs: list) -> Counter:
    """A bias that is added by itself: one number for each channel."""
    shape, channels = get_shape(outputs[0]), get_shape(inputs[1])
    is_bias = channels is not None and len(shape) == 4 and channels == [shape[1], 1, 1]
    return Counter(bias=torch.Size(shape).numel()) if is_bias else Counter()


def _count_norm(inputs: list, outputs: list) -> Counter:
    return Counter(norm=2 * torch.Size(get_shape(outputs[0])).numel())


def _named(handle: Callable[[list, list], int | Counter]) -> Callable[[list, list], Counter]:
    def count(inputs: list, outputs: list) -> Counter:
        result = handle(inputs, outputs)
        return Counter(matmul=sum(result.values()) if isinstance(result, Counter) else result)

    return count


_HANDLES = {
    "aten::_convolution": _count_conv,
    "aten::add": _count_add,
    "aten::matmul": _named(matmul_flop_jit),
    "aten::bmm": _named(bmm_flop_jit),
    "aten::batch_norm": _count_norm,
    "aten::group_norm": _count_norm,
    "aten::layer_norm": _count_norm,
}


def _analysis(module: nn.Module, *inputs: Tensor) -> FlopCountAnalysis:
    analysis = FlopCountAnalysis(module, inputs)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return analysis.tracer_warnings("none").clear_op_handles().set_op_handle(**_HANDLES)


def count_flops(module: nn.Module, *inputs: Tensor) -> Counter:
    """Operations of one call, by kind: "conv", "matmul", "norm", "bias"."""
    return _analysis(module, *inputs).by_operator()


class _Network(nn.Module):
    """From a normalized image to the maps of the predictions, which tracing can follow."""

    def __init__(self, model: TOOD) -> None:
        super().__init__()
        self.backbone, self.head = model.backbone, model.head
        self.names, self.anchor_generator = model.head_in_features, model.anchor_generator

    def forward(self, image: Tensor) -> list[Tensor]:
        """All predicted maps."""
        features = self.backbone(image)
        maps = [features[name] for name in self.names]
        anchors = [boxes.tensor for boxes in self.anchor_generator(maps)]
        return [level for levels in self.head(maps, anchors) for level in levels or []]


@torch.no_grad()
def _by_module(model: TOOD, size: tuple[int, int]) -> dict[str, Counter]:
    """Operations on one image of (width, height), by the names of modules."""
    multiple = model.backbone.size_divisibility
    device = next(model.parameters()).device
    width, height = (-(-side // multiple) * multiple for side in size)
    image = torch.zeros(1, 3, height, width, device=device)
    return _analysis(_Network(model), image).by_module_and_operator()


def count_parts(model: TOOD, size: tuple[int, int]) -> dict[str, Counter]:
    """Operations on one image of (width, height), as :func:`count_flops`, by part.

    Returns:
        Those of "backbone", "FPN", "head" and "model".
    """
    modules = _by_module(model, size)
    bottom_up, backbone = modules["backbone.bottom_up"], modules["backbone"]
    parts = {"backbone": bottom_up, "FPN": backbone - bottom_up, "head": modules["head"]}
    return {**parts, "model": backbone + modules["head"]}


def count_training_flops(model: TOOD, size: tuple[int, int]) -> Counter:
    """Operations of forward and backward on one image of (width, height).

    Each product has two more in the backward pass, but for the frozen beginning of the backbone.
    """
    modules = _by_module(model, size)
    total = Counter()
    for name in ("backbone", "head"):
        total.update({kind: 3 * n for kind, n in modules[name].items()})
    for name, child in model.backbone.bottom_up.named_children():
        if not any(p.requires_grad for p in child.parameters()):
            frozen = modules[f"backbone.bottom_up.{name}"]
            total.subtract({kind: 2 * n for kind, n in frozen.items()})
    return total


def describe(model: TOOD, size: tuple[int, int]) -> Iterable[list]:
    """Rows of the table: name of the part, its parameters, its FLOPs by kind."""
    bottom_up = count_parameters(model.backbone.bottom_up)
    backbone = count_parameters(model.backbone)
    parameters = {
        "backbone": bottom_up,
        "FPN": tuple(a - b for a, b in zip(backbone, bottom_up, strict=True)),
        "head": count_parameters(model.head),
        "model": count_parameters(model),
    }
    for name, flops in count_parts(model, size).items():
        kinds = [flops["conv"] + flops["matmul"], flops["norm"], flops["bias"]]
        counts = [n / 1e6 for n in parameters[name]] + [n / 1e9 for n in (*kinds, sum(kinds))]
        yield [name, *counts]


def image_size(text: str) -> tuple[int, int]:
    """(width, height) from "WIDTHxHEIGHT", for argparse."""
    width, height = text.split("x")
    return int(width), int(height)


def main() -> None:
    """Print one table per config."""
    args = parse_args()
    width, height = args.size
    configs = args.configs or sorted(str(path) for path in (ROOT / "configs").glob("TOOD-*.yaml"))
    header = ["", "params M", "trainable M", "conv + matmul G", "norm G", "bias G", "FLOPs G"]
    for config in configs:
        cfg = load_config(config, ["MODEL.DEVICE", "cpu", *args.opts])
        rows = list(describe(build_model(cfg).eval(), args.size))
        print(f"\n{Path(config).stem}, {width}x{height}")
        formats = ("", ".3f", ".3f", ".3f", ".3f", ".3f", ".2f")
        print(tabulate(rows, header, tablefmt="github", floatfmt=formats), flush=True)


if __name__ == "__main__":
    with exit_on_user_error():
        sys.exit(main())
