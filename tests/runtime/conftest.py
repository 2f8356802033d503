"""Exported files, their metadata, and images."""

import dataclasses
from pathlib import Path

import pytest

from tests.export.conftest import Exported, export_tiny
from tood_runtime.model_info import ModelInfo


@pytest.fixture(scope="session")
def exported_raw(tmp_path_factory) -> Exported:
    """The model of ``exported_onnx`` as a file with raw output."""
    return export_tiny(tmp_path_factory.mktemp("raw") / "tiny.onnx", raw=True)


@pytest.fixture
def make_info():
    """Builds the metadata of a model: ``make_info(min_size=64)``."""
    return build_info


def build_info(**changes) -> ModelInfo:
    info = ModelInfo(
        model="tiny",
        output="detections",
        precision="float32",
        class_names=["a", "b", "c"],
        category_ids=[1, 2, 7],
        channel_order="BGR",
        apply_exif_orientation=True,
        min_size=96,
        max_size=160,
        size_divisor=32,
        level_strides=[8, 16, 32, 64, 128],
        batch=None,
        height=None,
        width=None,
        score_threshold=0.05,
        nms_threshold=0.6,
        topk_candidates=1000,
        max_detections=100,
        config="",
        weights_sha256="",
    )
    return dataclasses.replace(info, **changes)


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """A folder with images of three sizes, shapes on noise."""
    import numpy as np
    from PIL import Image, ImageDraw

    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for i, (width, height) in enumerate([(120, 90), (64, 130), (200, 110)]):
        image = Image.fromarray(generator.integers(0, 256, (height, width, 3)).astype(np.uint8))
        ImageDraw.Draw(image).ellipse([10, 12, width // 2, height // 2], fill=(250, 10, 60))
        image.save(folder / f"{i}.png")
    return folder


@pytest.fixture
def make_onnx(tmp_path, make_info):
    """Writes an ONNX file that adds 1 to ``images``: ``make_onnx(info, op_type="Relu")``."""
    import onnx
    from onnx import TensorProto, helper

    def make(info=None, op_type="Identity", outputs=("boxes", "scores")):
        value = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["b", 3, "h", "w"])
        results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        nodes = [helper.make_node(op_type, ["images"], [name], name=name) for name in outputs]
        graph = helper.make_graph(nodes, "g", [value], results)
        opsets = [helper.make_opsetid("", 19)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        if info is not None:
            helper.set_model_props(model, info.to_strings())
        path = tmp_path / "made.onnx"
        onnx.save(model, str(path))
        return path

    return make
