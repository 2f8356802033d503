"""Exported models with a network of a few operators, but with all that the project adds."""

import io
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tood.config.loading import load_config
from tood_runtime.model_info import ModelInfo

from ..files import Case
from .configs import NARROW

_NAMES = ("boxes", "scores", "labels", "num_dets")
_INPUTS = ("images", "image_sizes", "original_sizes")


class _Network(nn.Module):
    """Finds one object of class 0 in each image: the image itself, scored by its brightness."""

    def forward(
        self, images: Tensor, image_sizes: Tensor, original_sizes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        brightness = images.mean(dim=(1, 2, 3)) / 255
        scores = brightness.reshape(-1, 1)
        sizes = original_sizes.float().flip(1)
        boxes = torch.cat([torch.zeros_like(sizes), sizes], dim=1).reshape(-1, 1, 4)
        labels = torch.zeros_like(scores).long() + image_sizes[:, :1] * 0
        return boxes, scores, labels, torch.ones_like(brightness).long()


def model_info() -> ModelInfo:
    """What the files say about their model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.yaml"
        path.write_text(NARROW)
        config = load_config(path).dump()
    return ModelInfo(
        model="tiny",
        output="detections",
        precision="float32",
        class_names=["cat", "dog", "no"],
        category_ids=[1, 2, 7],
        channel_order="BGR",
        apply_exif_orientation=True,
        min_size=64,
        max_size=128,
        size_divisor=32,
        level_strides=[8, 16, 32, 64, 128],
        batch=None,
        height=None,
        width=None,
        score_threshold=0.05,
        nms_threshold=0.6,
        topk_candidates=1000,
        max_detections=100,
        config=config,
        weights_sha256="",
    )


def _inputs() -> tuple[Tensor, Tensor, Tensor]:
    sizes = torch.tensor([[32, 40], [30, 20]])
    return torch.rand(2, 3, 32, 64) * 255, sizes, sizes * 2


def _onnx(info: ModelInfo) -> bytes:
    """The network in ONNX, written node by node: PyTorch's exporters take seconds."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    def constant(name: str, values: Any) -> Any:
        return numpy_helper.from_array(np.array(values), name)

    constants = [
        constant("max", np.float32(255)),
        constant("column", np.array([-1, 1], np.int64)),
        constant("box", np.array([-1, 1, 4], np.int64)),
        constant("flat", np.array([-1], np.int64)),
        constant("swap", np.array([1, 0], np.int64)),
        constant("zero", np.float32(0)),
    ]
    node = helper.make_node
    nodes = [
        node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0),
        node("Div", ["mean", "max"], ["bright"]),
        node("Reshape", ["bright", "column"], ["scores"]),
        node("Cast", ["original_sizes"], ["float_sizes"], to=TensorProto.FLOAT),
        node("Gather", ["float_sizes", "swap"], ["sizes"], axis=1),
        node("Mul", ["sizes", "zero"], ["corner"]),
        node("Concat", ["corner", "sizes"], ["flat_boxes"], axis=1),
        node("Reshape", ["flat_boxes", "box"], ["boxes"]),
        node("Sub", ["image_sizes", "image_sizes"], ["nothing"]),
        node("Gather", ["nothing", "first"], ["labels"], axis=1),
        node("ReduceMin", ["labels"], ["least"], axes=[1], keepdims=0),
        node("Add", ["least", "one"], ["num_dets"]),
    ]
    constants += [constant("first", np.array([0], np.int64)), constant("one", np.int64(1))]
    value, float_type, int_type = (
        helper.make_tensor_value_info,
        TensorProto.FLOAT,
        TensorProto.INT64,
    )
    inputs = [
        value("images", float_type, ["n", 3, "h", "w"]),
        value("image_sizes", int_type, ["n", 2]),
        value("original_sizes", int_type, ["n", 2]),
    ]
    outputs = [
        value("boxes", float_type, ["n", 1, 4]),
        value("scores", float_type, ["n", 1]),
        value("labels", int_type, ["n", 1]),
        value("num_dets", int_type, ["n"]),
    ]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(proto, info.to_strings())
    return bytes(proto.SerializeToString())


def _openvino(onnx_file: bytes, info: ModelInfo) -> dict[str, bytes]:
    import openvino

    from tood_runtime.backends.openvino import INFO_KEY, get_core

    model = get_core().read_model(onnx_file)
    for key, value in info.to_strings().items():
        model.set_rt_info(value, [INFO_KEY, key])
    with tempfile.TemporaryDirectory() as folder:
        openvino.save_model(model, f"{folder}/a.xml", compress_to_fp16=False)
        return {name: (Path(folder) / name).read_bytes() for name in ("a.xml", "a.bin")}


def _torchscript(info: ModelInfo) -> bytes:
    file = io.BytesIO()
    module = torch.jit.freeze(torch.jit.trace(_Network().eval(), _inputs(), check_trace=False))
    torch.jit.save(module, file, _extra_files=info.to_strings())
    return file.getvalue()


def _torch_export(info: ModelInfo) -> bytes:
    from tood.export.torch_export import save_torch_export

    dynamic = torch.export.Dim.DYNAMIC
    axes = (dict.fromkeys((0, 2, 3), dynamic), {0: dynamic}, {0: dynamic})
    program = torch.export.export(_Network().eval(), _inputs(), dynamic_shapes=axes, strict=False)
    with tempfile.TemporaryDirectory() as folder:
        save_torch_export(program, Path(folder) / "a.pt2", info)
        return (Path(folder) / "a.pt2").read_bytes()


def exported_cases() -> list[Case]:
    """ONNX, read by both runtimes; OpenVINO, TorchScript and torch.export."""
    info = model_info()
    onnx_file = _onnx(info)
    files = {
        "a.torchscript": {"a.torchscript": _torchscript(info)},
        "a.pt2": {"a.pt2": _torch_export(info)},
    }
    return [
        Case("exported", "a.onnx", {"a.onnx": onnx_file}),
        Case("exported", "a.onnx", {"a.onnx": onnx_file}, {"runtime": "openvino"}),
        Case("exported", "a.xml", _openvino(onnx_file, info)),
        *(Case("exported", name, content) for name, content in files.items()),
    ]
