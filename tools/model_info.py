#!/usr/bin/env python3
"""Size of models by part: parameters, and multiply-adds at a given size of the image.

tools/model_info.py                                     # all published models, 1280x800
tools/model_info.py configs/TOOD-R50-1x.yaml --size 1333x800

How it is counted: one multiply-add of a convolution or matrix product is one FLOP (so G are GMAC),
each bias adds one and each normalisation two per element of its output. That is the counting that
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

from tood.config import load_config
from tood.errors import ConfigError, exit_on_user_error

ROOT = Path(__file__).resolve().parents[1]


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("configs", nargs="*", help="config files; the published models by default")
    parser.add_argument("--size", default="1280x800", help="width x height of the image, in pixels")
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


def count_flops(module: nn.Module, *inputs: Tensor | list[Tensor]) -> Counter:
    """Operations of one call, by kind: "conv", "matmul", "norm", "bias"."""
    analysis = FlopCountAnalysis(module, inputs)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.tracer_warnings("none").clear_op_handles().set_op_handle(**_HANDLES)
    return analysis.by_operator()


class _Maps(nn.Module):
    """A module whose results are tensors only, as tracing wants them."""

    def __init__(self, module: nn.Module, pick: Callable) -> None:
        super().__init__()
        self.module, self.pick = module, pick

    def forward(self, *inputs: Tensor | list[Tensor]) -> list[Tensor]:
        """What ``pick`` takes of the module's result."""
        return self.pick(self.module(*inputs))


def count_head(head: nn.Module, maps: list[Tensor], anchors: list[Tensor]) -> Counter:
    """Operations of a head on its levels; see :func:`count_flops`."""
    outputs = _Maps(head, lambda out: [*out.pred_scores, *out.pred_boxes])
    return count_flops(outputs, maps, anchors)


@torch.no_grad()
def describe(model: nn.Module, size: tuple[int, int]) -> Iterable[list]:
    """Rows of the table: name of the part, its parameters, its FLOPs by kind."""
    width, height = size
    multiple = model.backbone.size_divisibility
    image = torch.zeros(1, 3, *(-(-side // multiple) * multiple for side in (height, width)))
    bottom_up = model.backbone.bottom_up
    features = model.backbone(image)
    maps = [features[name] for name in model.head_in_features]
    anchors = [boxes.tensor for boxes in model.anchor_generator(maps)]
    backbone = count_flops(_Maps(bottom_up, lambda out: list(out.values())), image)
    body = count_flops(_Maps(model.backbone, lambda out: list(out.values())), image)
    head = count_head(model.head, maps, anchors)
    whole = count_parameters(model)
    parts = {
        "backbone": (count_parameters(bottom_up), backbone),
        "FPN": (
            tuple(
                a - b
                for a, b in zip(
                    count_parameters(model.backbone), count_parameters(bottom_up), strict=True
                )
            ),
            body - backbone,
        ),
        "head": (count_parameters(model.head), head),
        "model": (whole, body + head),
    }
    for name, ((total, trainable), flops) in parts.items():
        kinds = [flops["conv"] + flops["matmul"], flops["norm"], flops["bias"]]
        yield [name, total / 1e6, trainable / 1e6, *(n / 1e9 for n in (*kinds, sum(kinds)))]


def main() -> None:
    """Print one table per config."""
    args = parse_args()
    try:
        width, height = (int(side) for side in args.size.split("x"))
    except ValueError as error:
        raise ConfigError(f"--size is {args.size}; write it as 1280x800") from error
    configs = args.configs or sorted(str(path) for path in (ROOT / "configs").glob("TOOD-*.yaml"))
    header = ["", "params M", "trainable M", "conv + matmul G", "norm G", "bias G", "FLOPs G"]
    for config in configs:
        cfg = load_config(config, ["MODEL.DEVICE", "cpu", *args.opts])
        rows = list(describe(build_model(cfg).eval(), (width, height)))
        print(f"\n{Path(config).stem}, {width}x{height}")
        formats = ("", ".3f", ".3f", ".3f", ".3f", ".3f", ".2f")
        print(tabulate(rows, header, tablefmt="github", floatfmt=formats), flush=True)


if __name__ == "__main__":
    with exit_on_user_error():
        sys.exit(main())
