"""examples/onnx/detect.py gives the runtime's results, and stands alone."""

import dataclasses
import importlib.util
import json
import sys

import numpy as np
import pytest
from PIL import Image

from tests.helpers import ROOT
from tests.runtime.conftest import build_info, photos  # noqa: F401
from tests.structure.test_imports import external_imports
from tood_runtime.detector import RuntimeDetector
from tood_runtime.preprocessing import prepare_batch, resized_size

pytest.importorskip("onnxruntime")
PROGRAM = ROOT / "examples" / "onnx" / "detect.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("onnx_example", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_short_and_stands_alone():
    assert len(PROGRAM.read_text().splitlines()) < 150
    outside = external_imports(PROGRAM) - sys.stdlib_module_names
    assert outside == {"numpy", "onnxruntime", "PIL"}


def test_results_equal_the_runtime_s(example, exported_onnx, photos, capsys, monkeypatch, tmp_path):  # noqa: F811
    detector = RuntimeDetector(exported_onnx.path)
    for path in sorted(photos.iterdir()):
        line = [str(exported_onnx.path), str(path), "--threshold", "0.02"]
        monkeypatch.setattr(sys, "argv", ["detect.py", *line, "--draw", str(tmp_path / "x.png")])
        example.main()
        rows = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
        expected = detector(path, score_threshold=0.02)
        assert len(rows) == len(expected) > 3
        assert [row["class"] for row in rows] == expected.class_names
        np.testing.assert_array_equal(
            np.array([row["box"] for row in rows], np.float32), expected.xyxy
        )
        np.testing.assert_array_equal(
            np.array([row["score"] for row in rows], np.float32), expected.confidence
        )
        assert Image.open(tmp_path / "x.png").size == expected.image_size[::-1]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"channel_order": "RGB"},
        {"channel_order": "L"},
        {"channel_order": "L", "channels": 1},
        {"min_size": 0},
        {"height": 64, "width": 100, "batch": 2},
        {"apply_exif_orientation": False},
    ],
)
def test_inputs_equal_the_runtime_s(example, changes, tmp_path):
    info = build_info(**changes)
    pixels = np.random.default_rng(0).integers(0, 256, (70, 110, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    image = example.read_image(tmp_path / "x.png", dataclasses.asdict(info))
    upright = np.rot90(pixels, -1) if info.apply_exif_orientation else pixels
    actual = example.preprocess(image, dataclasses.asdict(info))
    expected = prepare_batch([np.ascontiguousarray(upright)], info)
    for name, value in expected._asdict().items():
        np.testing.assert_array_equal(actual[name], value)
        assert actual[name].dtype == value.dtype


def test_sizes_equal_the_runtime_s(example):
    generator = np.random.default_rng(1)
    for changes in ({}, {"min_size": 800, "max_size": 1333}, {"height": 64, "width": 100}):
        info = build_info(**changes)
        for height, width in generator.integers(1, 4000, (2000, 2)).tolist():
            expected = resized_size(height, width, info)
            assert example.resized_size(height, width, dataclasses.asdict(info)) == expected


def test_files_that_it_cannot_run(example, exported_onnx, tmp_path):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(str(exported_onnx.path))
    for changes, message in (({"tood_format": "2"}, "another version"), ({"output": "raw"}, "raw")):
        texts = {**exported_onnx.info.to_strings(), **changes}
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, texts)
        onnx.save(model, str(tmp_path / "x.onnx"))
        with pytest.raises(SystemExit, match=message):
            example.load(str(tmp_path / "x.onnx"))
    session, info = example.load(str(exported_onnx.path))
    with pytest.raises(SystemExit, match="drops detections below"):
        example.detect(session, info, Image.new("RGB", (8, 8)), 0.001)
