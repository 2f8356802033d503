"""ONNX files."""

import io
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .wrapper import ExportableNetwork


def to_onnx(network: ExportableNetwork, inputs: tuple[Tensor, ...], opset: int, dynamic: bool):
    import onnx
    register_deform_conv()
    axes = network.dynamic_axes if dynamic else None
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, inputs, buffer, dynamo=False, opset_version=opset,
            input_names=list(network.input_names), output_names=list(network.output_names),
            dynamic_axes=axes, do_constant_folding=True,
        )
    return onnx.load_from_string(buffer.getvalue())


def register_deform_conv():
    from torch.onnx import register_custom_op_symbolic
    from torch.onnx.symbolic_helper import parse_args

    @parse_args("v", "v", "v", "v", "v", "i", "i", "i", "i", "i", "i", "i", "i", "b")
    def deform_conv2d(g, x, weight, offset, mask, bias, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, groups, offset_groups, use_mask):
        args = [x, weight, offset, bias]
        if use_mask:
            args.append(mask)
        return g.op("DeformConv", *args, strides_i=[stride_h, stride_w], pads_i=[pad_h, pad_w, pad_h, pad_w], dilations_i=[dil_h, dil_w], group_i=groups, offset_group_i=offset_groups)
    register_custom_op_symbolic("torchvision::deform_conv2d", deform_conv2d, 19)
