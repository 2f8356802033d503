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
