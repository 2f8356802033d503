import sys
from dataclasses import replace

import pytest

from tests.export.quantize.helpers import INFO, draw_images
from tood.errors import ExportError
from tood.export.quantize import DEFAULTS, QuantizationSettings, quantize


def run(tmp_path, **changes):
    arguments = {"kind": "onnx", "images": draw_images(tmp_path, 8), "info": INFO} | changes
    return quantize(tmp_path / "float.onnx", tmp_path / "int8.onnx", **arguments)


def test_unknown_kinds_are_refused(tmp_path):
    with pytest.raises(ExportError, match=r"'torchscript'.*Available: onnx, openvino"):
        run(tmp_path, kind="torchscript")


@pytest.mark.parametrize(("kind", "package"), [("onnx", "onnxruntime"), ("openvino", "nncf")])
def test_missing_packages_name_the_extra(tmp_path, monkeypatch, kind, package):
    pytest.importorskip("openvino")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ExportError, match=rf"{package}.*tood-detectron2\[quantize\]"):
        run(tmp_path, kind=kind)


def test_the_input_must_be_in_float32(tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(ExportError, match=r"float\.onnx is in float16"):
        run(tmp_path, info=replace(INFO, precision="float16"))


def test_no_images(tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(ExportError, match="calibrate"):
        run(tmp_path, images=[])


@pytest.mark.parametrize("name", ["parts", "ranges", "bias_correction"])
def test_unknown_settings_list_the_choices(name):
    with pytest.raises(ValueError, match=rf"Unknown {name} 'x'\. Available: "):
        QuantizationSettings(**{name: "x"})


def test_sensitive_parts_stay_in_float_by_default():
    assert {settings.parts for settings in DEFAULTS.values()} == {"layers"}
