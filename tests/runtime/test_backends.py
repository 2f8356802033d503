"""Opening exported files, and what is said about files and arrays that do not fit."""

import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tood_runtime.backends import BackendError, ONNXRuntimeBackend, open_backend
from tood_runtime.backends.base import one_line, validate_inputs
from tood_runtime.backends.onnxruntime import _has_deform_conv
from tood_runtime.backends.openvino import OpenVINOBackend, get_core
from tood_runtime.model_info import ModelFileError

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture
def batch(exported_onnx):
    """Two images in one batch."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (2, 3, 96, 130)).astype(np.float32)
    return images, np.array([[96, 130], [80, 100]]), np.array([[192, 260], [80, 100]])


def test_outputs_equal_the_network_s(exported_onnx, batch):
    import torch

    from tood.export.exporter import build_network
    from tood.export.options import ExportOptions

    backend = open_backend(exported_onnx.path, threads=1)
    assert backend.info == exported_onnx.info
    assert backend.name == f"ONNX Runtime {onnxruntime.__version__}"
    outputs = backend.run(*batch)
    with torch.no_grad():
        expected = build_network(exported_onnx.model, ExportOptions())(
            *map(torch.from_numpy, batch)
        )
    assert list(outputs) == ["boxes", "scores", "labels", "num_dets"]
    assert outputs["num_dets"].min() > 3
    for (name, actual), value in zip(outputs.items(), expected, strict=True):
        tolerance = 1e-2 if name == "boxes" else 1e-5
        np.testing.assert_allclose(actual, value.numpy(), atol=tolerance, rtol=0, err_msg=name)
        assert actual.dtype == value.numpy().dtype


def test_raw_outputs_ignore_the_original_sizes(exported_raw, batch):
    backend = open_backend(exported_raw.path)
    first = backend.run(*batch)
    second = backend.run(batch[0], batch[1], batch[2] * 3)
    assert first["boxes"].shape == (2, 323, 4) and first["scores"].shape == (2, 323, 5)
    np.testing.assert_array_equal(first["boxes"], second["boxes"])


def test_openvino_files(exported_onnx, batch, tmp_path):
    openvino = pytest.importorskip("openvino")
    model = get_core().read_model(exported_onnx.path)
    for key, value in exported_onnx.info.to_strings().items():
        model.set_rt_info(value, ["tood", key])
    openvino.save_model(model, tmp_path / "tiny.xml", compress_to_fp16=False)
    backend = open_backend(tmp_path / "tiny.xml", threads=1)
    assert backend.name.startswith("OpenVINO 20") and backend.info == exported_onnx.info
    hint = backend._model.get_property("INFERENCE_PRECISION_HINT")
    assert hint.get_type_name() == "f32"  # and not what the CPU likes best
    outputs = backend.run(*batch)
    for name, expected in open_backend(exported_onnx.path).run(*batch).items():
        tolerance = 1e-2 if name == "boxes" else 1e-5
        np.testing.assert_allclose(outputs[name], expected, atol=tolerance, rtol=0, err_msg=name)
        assert outputs[name].dtype == expected.dtype
    (tmp_path / "tiny.bin").unlink()
    with pytest.raises(ModelFileError, match=r"weights in tiny\.bin, which is missing"):
        open_backend(tmp_path / "tiny.xml")


def test_openvino_reads_onnx_files(make_onnx, make_info, caplog):
    pytest.importorskip("openvino")
    info = make_info(
        output="raw",
        class_names=["caf\u00e9", '<"&>'],
        category_ids=[1, 2],
        config="A: 1\nB:\n  C: x\n",
    )
    path = make_onnx(info)
    backend = open_backend(path, runtime="openvino")
    assert backend.info == info
    images, sizes = np.full((1, 3, 4, 5), 7, np.float32), np.array([[4, 5]])
    np.testing.assert_array_equal(backend.run(images, sizes, sizes)["boxes"], images)
    with pytest.raises(BackendError, match="no device 'cuda' here.*cpu"):
        open_backend(path, runtime="openvino", device="cuda")
    assert not caplog.messages
    model = open_backend(path, runtime="openvino", precision="bfloat16")._model
    if model.get_property("INFERENCE_PRECISION_HINT").get_type_name() != "bf16":
        assert caplog.messages == ["OpenVINO computes in f32: this device has no fast bf16."]


def test_files_that_are_no_models(tmp_path, make_onnx, make_info):
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "text.onnx").write_text("no model")
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "model.xml").touch()
    (tmp_path / "model.bin").touch()
    whole = make_onnx(make_info(output="raw")).read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    for name, message in (
        ("none.onnx", r"no model file .*none\.onnx. Write one with: tood export"),
        ("folder.onnx", r"folder\.onnx is a folder\. Name the model file"),
        ("text.onnx", r"text\.onnx is not an ONNX file"),
        ("empty.onnx", r"empty\.onnx is not an ONNX file"),
        ("cut.onnx", r"cut\.onnx is not an ONNX file, or it is cut off"),
        ("model.bin", r"has only weights. Name .*model\.xml"),
        ("model.pt2", r"needs PyTorch.*tood detect"),
        ("model.pth", r"no known kind\. Available: \.onnx \(ONNX Runtime\), \.xml \(OpenVINO\)"),
    ):
        with pytest.raises(ModelFileError, match=message) as raised:
            open_backend(tmp_path / name)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_threads_get_their_own_outputs(make_onnx, make_info, runtime):
    pytest.importorskip(runtime)
    backend = open_backend(make_onnx(make_info(output="raw")), runtime=runtime)
    sizes = np.array([[64, 64]])

    def run(value):
        images = np.full((1, 3, 64, 64), value, np.float32)
        return np.unique(backend.run(images, sizes, sizes)["boxes"]).tolist()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, range(400))) == [[value] for value in range(400)]


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_what_a_runtime_raises_names_the_file(make_onnx, make_info, runtime):
    """A graph that takes another size than its metadata says, and names that are not UTF-8."""
    pytest.importorskip(runtime)
    path = make_onnx(make_info(output="raw"))
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 7
    onnx.save(model, path)
    backend = open_backend(path, runtime=runtime)
    sizes = np.array([[8, 9]])
    with pytest.raises(ModelFileError, match=r"cannot run .*made\.onnx: .*Use smaller images"):
        backend.run(np.zeros((1, 3, 8, 9), np.float32), sizes, sizes)
    path.write_bytes(path.read_bytes().replace(b"Apache-2.0", b"Apache\xff2.0"))
    with pytest.raises(ModelFileError, match=r"made\.onnx has damaged metadata \(.*utf-8"):
        open_backend(path, runtime=runtime)


SIGNAL_AFTER_TWO_MODELS = """
import faulthandler, gc, signal, sys, threading
from tood_runtime.backends import open_backend
faulthandler.enable()  # its stack for signals is what OpenVINO replaces
models = [open_backend(sys.argv[1], runtime="openvino") for _ in range(2)]
models.pop(0)
gc.collect()
thread = threading.Thread(target=models.clear)
thread.start()
thread.join()
gc.collect()
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
signal.raise_signal(signal.SIGUSR1)
"""


def test_signals_are_handled_after_openvino_models_are_gone(make_onnx, make_info):
    """With a core of its own for each model this is a segmentation fault."""
    pytest.importorskip("openvino")
    path = make_onnx(make_info(output="raw"))
    command = [sys.executable, "-c", SIGNAL_AFTER_TWO_MODELS, str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_openvino_says_what_it_cannot_read(tmp_path, make_onnx, make_info):
    pytest.importorskip("openvino")
    (tmp_path / "model.xml").write_text("<html>\n</html>")
    (tmp_path / "model.bin").touch()
    with pytest.raises(
        ModelFileError, match=r"^OpenVINO 20[\d.]+ cannot read .*model\.xml: U"
    ) as raised:
        open_backend(tmp_path / "model.xml")
    assert "\n" not in str(raised.value)
    path = make_onnx(make_info(output="raw"), op_type="DeformConv", outputs=("boxes",))
    with pytest.raises(BackendError, match=r"OpenVINO 20[\d.]+ cannot run.*--dcn gather"):
        open_backend(path, runtime="openvino")


def test_openvino_says_what_it_cannot_compile(make_onnx, make_info):
    pytest.importorskip("openvino")
    path = make_onnx(make_info(output="raw"))
    with pytest.raises(BackendError, match=r"cannot compile .*made\.onnx for cpu: ") as raised:
        OpenVINOBackend(path, threads=-7)
    assert "\n" not in str(raised.value)


def test_files_of_others(make_onnx, make_info):
    with pytest.raises(ModelFileError, match="no metadata of this project"):
        open_backend(make_onnx())
    with pytest.raises(ModelFileError, match=r"unknown output 'masks'.*Available: detections, raw"):
        open_backend(make_onnx(make_info(output="masks")))
    with pytest.raises(ModelFileError, match=r"outputs boxes, scores, which do not belong"):
        open_backend(make_onnx(make_info()))
    assert open_backend(make_onnx(make_info(output="raw"))).info.output == "raw"


def test_operator_that_the_runtime_lacks(make_onnx, make_info):
    path = make_onnx(make_info(output="raw"), op_type="NoSuchOperator")
    version = onnxruntime.__version__
    with pytest.raises(
        ModelFileError, match=rf"{version} cannot load .*made\.onnx: (?!\[).*NoSuchOperator"
    ) as raised:
        open_backend(path)
    assert "\n" not in str(raised.value)


def test_old_onnxruntime_and_deformable_convolutions(make_onnx, make_info, monkeypatch):
    """Says so before the runtime loads the file; a name alone is no operator."""
    made = make_onnx(make_info(output="raw"), op_type="DeformConv", outputs=("boxes",))
    assert _has_deform_conv(made)
    old = types.ModuleType("onnxruntime")
    old.__version__ = "1.24.4"
    monkeypatch.setitem(sys.modules, "onnxruntime", old)
    with pytest.raises(BackendError, match=r"from 1\.25 on; this one is 1\.24\.4.*--dcn gather"):
        open_backend(made)
    named = make_onnx(make_info(output="raw"), outputs=("/backbone/DeformConv", "scores"))
    assert not _has_deform_conv(named)


@pytest.mark.parametrize("name, kind", [("onnxruntime", ".onnx"), ("openvino", ".xml")])
def test_missing_runtime(name, kind, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / f"model{kind}").touch()
    (tmp_path / "model.bin").touch()
    with pytest.raises(BackendError, match=rf"needs the package {name}, .*pip install {name}"):
        open_backend(tmp_path / f"model{kind}")


def test_options(exported_onnx, monkeypatch):
    path = exported_onnx.path
    for options, message in (
        ({"device": "cuda"}, "it has .*CPUExecutionProvider.*onnxruntime-gpu"),
        ({"device": "tpu"}, "Unknown device 'tpu'. Available: cpu, cuda, cuda:N"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"precision": "f64"}, "Unknown precision 'f64'. Available: float32"),
        ({"precision": "bfloat16"}, "precision is a setting of OpenVINO"),
        ({"runtime": "tensorrt"}, "Unknown runtime 'tensorrt' for .onnx files. Available: onnx"),
    ):
        if options.get("device") == "cuda" and "CUDA" in str(onnxruntime.get_available_providers()):
            continue
        with pytest.raises(BackendError, match=message):
            open_backend(path, **options)
    # The CUDA libraries do not load: the runtime would silently use the CPU.
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(ModelFileError, match="CUDA"), pytest.warns(UserWarning):
        ONNXRuntimeBackend(path, "cuda:1")


def test_arrays_that_do_not_fit(make_info):
    images = np.zeros((2, 3, 64, 96), np.float32)
    sizes = np.array([[64, 96], [60, 90]])
    validate_inputs(make_info(), images, sizes, sizes * 9)
    fixed = make_info(batch=2, height=64, width=96)
    validate_inputs(fixed, images, sizes, sizes)
    for info, arrays, message in (
        (make_info(), (images.astype(np.uint8), sizes, sizes), "array of float32, got uint8"),
        (make_info(), (images[0], sizes, sizes), r"\(N, 3, H, W\).*got shape \(3, 64, 96\)"),
        (make_info(), (images.transpose(0, 2, 3, 1), sizes, sizes), r"shape \(2, 64, 96, 3\)"),
        (make_info(), (images[:0], sizes[:0], sizes[:0]), "at least one image"),
        (make_info(), (images.tolist(), sizes, sizes), "got list"),
        (make_info(), (images, sizes.astype(np.int32), sizes), "image_sizes .* got int32"),
        (make_info(), (images, sizes, sizes[:1]), r"original_sizes .*\(2, 2\), got \(1, 2\)"),
        (make_info(), (images, sizes, sizes * 0), "original_sizes must be positive, got 0"),
        (
            make_info(),
            (images, sizes[:, ::-1].copy(), sizes),
            r"at most \(64, 96\).*got \(96, 64\)",
        ),
        (make_info(batch=4), (images, sizes, sizes), "exactly 4 images, got 2"),
        (make_info(height=32), (images, sizes, sizes), "exactly 32 pixels in height, got 64"),
        (make_info(width=32), (images, sizes, sizes), "exactly 32 pixels in width, got 96"),
    ):
        with pytest.raises(ValueError, match=message):
            validate_inputs(info, *arrays)


def test_what_a_runtime_quotes_from_a_file_is_shortened():
    assert len(one_line(RuntimeError("x" * 100_000))) == 500
    assert one_line(ValueError("\n first.\nlast. ")) == "first"
    assert one_line(ValueError("first\nlast."), -1) == "last" and one_line(KeyError()) == "KeyError"
