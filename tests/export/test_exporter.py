"""From a model to a verified file, and what is refused."""

import json
from dataclasses import replace

import pytest
import torch
from detectron2.modeling import build_model

from tests.conftest import make_tiny_cfg
from tood.errors import ExportError
from tood.export import ExportOptions, VerificationError, export_model
from tood.export import exporter as exporter_module
from tood_runtime.backends import open_backend

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def test_file_and_report(tiny, tmp_path):
    model, cfg = tiny
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"weights")
    seen = []
    result = export_model(
        model, cfg, tmp_path / "new" / "tiny.onnx", name="tiny", weights=str(weights),
        inspect=lambda path: seen.append(path.is_file()),
    )  # fmt: skip
    assert seen == [True] and result.report.passed
    assert sorted(path.name for path in result.path.parent.iterdir()) == [
        "tiny.onnx", "tiny.onnx.verify.json",
    ]  # fmt: skip
    report = json.loads((tmp_path / "new" / "tiny.onnx.verify.json").read_text())
    assert report["passed"] is True
    info = open_backend(result.path).info
    assert info == result.info and info.model == "tiny" and info.class_names[0] == "circle"
    # What sha256sum prints of a file that holds "weights".
    assert info.weights_sha256.startswith("9a129038d9a00aed")
    assert "TOOD" in info.config and info.versions["torch"] == str(torch.__version__)


def test_a_wrong_file_leaves_nothing_behind(tiny, tmp_path, monkeypatch):
    """Here the metadata names other classes; tests/export/verify has every other fault."""
    model, cfg = tiny
    build = exporter_module.build_info

    def swapped(*args, **kwargs):
        info = build(*args, **kwargs)
        return replace(info, class_names=info.class_names[::-1])

    monkeypatch.setattr(exporter_module, "build_info", swapped)
    (tmp_path / "tiny.onnx").write_text("earlier")
    with pytest.raises(VerificationError, match="was not written") as error:
        export_model(model, cfg, tmp_path / "tiny.onnx")
    assert not error.value.report.passed
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]
    assert (tmp_path / "tiny.onnx").read_text() == "earlier"


def test_a_failed_export_leaves_nothing_behind(tiny, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise ExportError("no")

    monkeypatch.setattr("tood.export.onnx.simplify", fail)
    with pytest.raises(ExportError, match="no"):
        export_model(*tiny, tmp_path / "tiny.onnx")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported(tiny, tmp_path):
    model, cfg = tiny
    with pytest.raises(ExportError, match="is a folder"):
        export_model(model, cfg, tmp_path)
    with pytest.raises(ExportError, match=r"does not end in \.xml"):
        export_model(model, cfg, tmp_path / "a.onnx", ExportOptions(format="openvino"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be created"):
        export_model(model, cfg, tmp_path / "file" / "a.onnx")
    with pytest.raises(ExportError, match="needs images like those"):
        export_model(model, cfg, tmp_path / "a.onnx", ExportOptions(precision="int8"))
    model = build_model(make_tiny_cfg())
    with pytest.raises(ExportError, match=r"model\.eval\(\)"):
        export_model(model, cfg, tmp_path / "a.onnx")
    retinanet = make_tiny_cfg()
    retinanet.MODEL.META_ARCHITECTURE = "RetinaNet"
    with pytest.raises(ExportError, match="META_ARCHITECTURE TOOD"):
        export_model(build_model(retinanet).eval(), cfg, tmp_path / "a.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_options():
    for wrong, message in (
        ({"format": "coreml"}, "Available: onnx, torchscript"),
        ({"precision": "bfloat16"}, "no convolution in bfloat16"),
        ({"format": "openvino", "precision": "bfloat16"}, "when the file is run"),
        ({"format": "torchscript", "precision": "int8"}, "cannot hold a model in int8"),
        ({"opset": 16}, "Use 17 to 20"),
        ({"opset": 21}, "Use 17 to 20"),
        ({"batch": 0}, "batch size"),
        ({"size": (0, 5)}, "at least 1x1"),
        ({"deform_conv": "x"}, "Available: operator, gather"),
    ):
        with pytest.raises(ExportError, match=message):
            ExportOptions(**wrong)
    with pytest.raises(ExportError, match=r"DeformConv from opset 19 on, not in 18.*--dcn gather"):
        ExportOptions(opset=18).require_opset(has_deform_conv=True)
    ExportOptions(opset=18).require_opset(has_deform_conv=False)
    ExportOptions(opset=18, deform_conv="gather").require_opset(has_deform_conv=True)
    ExportOptions(opset=18, format="openvino").require_opset(has_deform_conv=True)


def test_opset_is_checked_against_the_model(tmp_path):
    cfg = make_tiny_cfg()
    cfg.MODEL.TOOD.HEAD.NUM_DCN = 1
    with pytest.raises(ExportError, match="DeformConv from opset 19"):
        export_model(build_model(cfg).eval(), cfg, tmp_path / "a.onnx", ExportOptions(opset=18))
