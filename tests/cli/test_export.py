"""tood export."""

import functools
import json
import signal

import pytest

from tood.data.synthetic import CLASSES
from tood.export.verify import Limits, verify_export
from tood_runtime.backends import open_backend
from tood_runtime.cli import UsageError, parse
from tood_runtime.cli.export_arguments import FORMATS, PRECISIONS

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def model(config, options, weights) -> list[str]:
    """A config and its weights, as detectron2's users write them."""
    return ["--config-file", config, "--opts", "MODEL.WEIGHTS", weights, *options]


def test_verified_file_with_ap(tood, model, shapes, tmp_path, capsys):
    output = tmp_path / "model.onnx"
    truth = ["--annotations", shapes / "val.json", "--images", shapes / "images"]
    assert tood("export", *model, *truth, "--output", output) == 0
    out = capsys.readouterr().out
    assert "is verified with ONNX Runtime" in out and f"{output}: " in out
    rows = [line.split("|") for line in out.splitlines() if line.startswith("| difference")]
    assert float(rows[0][2]) == pytest.approx(0, abs=1e-3)
    assert json.loads((tmp_path / "model.onnx.verify.json").read_text())["passed"] is True
    info = open_backend(output).info
    assert info.class_names == list(CLASSES)
    assert len(info.weights_sha256) == 64 and info.model == "TOOD-R18-shapes"


def test_unverified_file_and_default_name(tood, run_folder, monkeypatch, tmp_path, capsys):
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert tood("export", run_folder, "--no-verify", "--size", "64x64", "--batch", "1") == 0
    assert "NOT VERIFIED" in capsys.readouterr().out
    assert [path.name for path in folder.iterdir()] == ["my-run.onnx"]
    info = open_backend(folder / "my-run.onnx").info
    assert (info.batch, info.width, info.height) == (1, 64, 64)


def test_wrong_file(tood, model, tmp_path, capsys, monkeypatch):
    """Exit code 1, the table, and no file."""
    strict = functools.partial(verify_export, limits=Limits(box=0, score=0))
    monkeypatch.setattr("tood.export.exporter.verify_export", strict)
    assert tood("export", *model, "--output", tmp_path / "a.onnx") == 1
    out, err = capsys.readouterr()
    assert "| batch" in out and "could not be verified" in err
    assert not list(tmp_path.glob("a.*"))


def test_killed(tood, model, tmp_path, monkeypatch):
    """SIGTERM leaves neither the file nor the folder that it was written into."""
    seen = []

    def be_killed(file, *_, **__):
        seen.append([path.name for path in tmp_path.iterdir()])
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("tood.export.exporter.verify_export", be_killed)
    before = signal.getsignal(signal.SIGTERM)
    assert tood("export", *model, "--output", tmp_path / "a.onnx", "--raw") == 128 + signal.SIGTERM
    assert seen[0][0].startswith(".export-") and not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) is before


def test_errors(tood, errors, config, model, options, tmp_path):
    missing = ["--config-file", config, "--opts", *options]
    onnx_file = ["--output", tmp_path / "a.onnx"]
    for line, message in (
        ([*missing, *onnx_file], "No weights are given"),
        ([*missing, "MODEL.WEIGHTS", tmp_path / "no.pth", *onnx_file], "no.pth"),
        ([*model, "--output", tmp_path], "is a folder"),
        ([*model, "MODEL.TOOD.HEAD.NUM_CONVS", "3", *onnx_file], "does not match"),
        ([*model, "--output", tmp_path / "a.xml", "--format", "onnx"], "does not end in .onnx"),
        ([*model, *onnx_file, "--opset", "5"], "Use 17 to 20"),
        ([*model, *onnx_file, "--precision", "int8"], "--calibration-images"),
    ):
        assert tood("export", *line) == 2
        assert message in errors()[-1]
    assert not list(tmp_path.iterdir())


def test_arguments():
    def read(*words):
        return parse(["export", "TOOD-R50-1x", *words])[1]

    assert read().format == "onnx" and read("--output", "a/b.xml").format == "openvino"
    assert (
        read("--output", "a.pt2").format == "torch-export" and read("--half").precision == "float16"
    )
    assert read("--size", "640x480").size == (640, 480)
    assert (read().opset, read().precision) == (19, "float32")
    for words, message in (
        (["--half", "--precision", "int8"], "--half or --precision"),
        (["--half", "--precision", "float32"], "--half or --precision"),
        (["--opset", "18", "--format", "torchscript"], "ONNX and OpenVINO files, not for torchs"),
        (["--dynamic", "--batch", "2"], "--dynamic, or"),
        (["--calibration-images", "x"], "is for --precision int8"),
        (["--no-verify", "--images", "x"], "which --no-verify skips"),
        (["--device", "cuda"], "Unknown option --device"),
        (["--format", "coreml"], "invalid choice"),
    ):
        with pytest.raises(UsageError, match=message):
            read(*words)


def test_choices_are_those_of_the_library():
    from tood.export.options import _PRECISIONS, SUFFIXES

    assert FORMATS == SUFFIXES and set(PRECISIONS) == set().union(*_PRECISIONS.values())
