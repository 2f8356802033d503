import pytest
import torch

from tests.export.helpers import assert_same_detections, batch_of
from tood.errors import ExportError
from tood.export.metadata import build_info
from tood.export.networks import build_network, example_inputs
from tood.export.options import ExportOptions
from tood.export.torch_backends import open_any_backend
from tood.export.torch_export import has_torch_export
from tood.export.torchscript import save_torchscript, to_torchscript
from tood.modeling.tracing import exporting
from tood_runtime.backends import BackendError
from tood_runtime.model_files import read_model_info
from tood_runtime.model_info import ModelFileError

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")


def write_torchscript(path, tiny, **options):
    """The TorchScript file of a tiny model; returns its network."""
    model, cfg = tiny
    options = ExportOptions(format="torchscript", **options)
    network = build_network(model, options)
    with exporting():
        traced = to_torchscript(network, example_inputs(network, options))
    save_torchscript(traced, path, build_info(model, cfg, options, name="tiny"))
    return network


@pytest.fixture(scope="module")
def torchscript(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("torchscript") / "tiny.torchscript"
    return path, write_torchscript(path, tiny)


@pytest.fixture(scope="module")
def backend(torchscript):
    return open_any_backend(torchscript[0], threads=1)


def test_metadata(torchscript, backend):
    assert backend.info == read_model_info(torchscript[0])
    assert backend.info.model == "tiny"
    assert backend.name.startswith("TorchScript 2.")


@pytest.mark.parametrize("shape", [(1, 64, 96), (2, 61, 100), (3, 128, 64)])
def test_equals_eager(torchscript, backend, shape):
    inputs = batch_of(*shape)
    with torch.no_grad():
        expected = torchscript[1](*inputs)
    assert (expected[3] > 20).all()
    assert_same_detections(backend.run(*(x.numpy() for x in inputs)), expected)


def test_file_has_no_device(torchscript):
    """Tensors that it makes are where its input is; tests/cli/test_gpu.py runs it on a GPU."""
    module = torch.jit.load(torchscript[0])
    assert "torch.arange" in module.code and "torch.device(" not in module.code


def test_threads_are_those_of_the_call(torchscript, monkeypatch):
    counts = []
    monkeypatch.setattr(torch, "set_num_threads", counts.append)
    before = torch.get_num_threads()
    backend = open_any_backend(torchscript[0], threads=7)
    backend.run(*(x.numpy() for x in batch_of(1, 32, 32)))
    assert counts == [7, before]


def test_raw_output(tiny, tmp_path):
    network = write_torchscript(tmp_path / "raw.ts", tiny, raw=True)
    inputs = batch_of(2, 64, 40)
    found = open_any_backend(tmp_path / "raw.ts").run(*(x.numpy() for x in inputs))
    with torch.no_grad():
        boxes, scores = network(*inputs[:2])
    # Unclipped boxes of random weights are large.
    torch.testing.assert_close(torch.from_numpy(found["boxes"]), boxes, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(torch.from_numpy(found["scores"]), scores, rtol=0, atol=1e-5)


def test_wrong_inputs_are_refused(backend):
    images, sizes, originals = (x.numpy() for x in batch_of(1, 64, 64))
    with pytest.raises(ValueError, match="float32"):
        backend.run(images.astype("float64"), sizes, originals)
    with pytest.raises(ValueError, match="without padding"):
        backend.run(images, sizes + 100, originals)


def test_onnx_files_go_to_the_runtime(exported_onnx):
    backend = open_any_backend(exported_onnx.path, threads=1)
    assert backend.name.startswith("ONNX Runtime")
    assert backend.info == exported_onnx.info


def test_unusable_files(torchscript, tmp_path):
    with pytest.raises(ModelFileError, match="no model file"):
        open_any_backend(tmp_path / "none.torchscript")
    with pytest.raises(ModelFileError, match="folder"):
        open_any_backend(tmp_path)
    for suffix in (".torchscript", ".pt2") if has_torch_export() else (".torchscript",):
        (tmp_path / f"text{suffix}").write_text("no archive")
        with pytest.raises(ModelFileError, match="damaged"):
            open_any_backend(tmp_path / f"text{suffix}")
    torch.jit.save(torch.jit.trace(torch.nn.ReLU(), torch.zeros(1)), tmp_path / "other.ts")
    with pytest.raises(ModelFileError, match="no metadata"):
        open_any_backend(tmp_path / "other.ts")
    torch.save({}, tmp_path / "weights.ts")
    with pytest.raises(ModelFileError, match="no metadata"):
        open_any_backend(tmp_path / "weights.ts")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"device": "tpu9"}, BackendError, "Unknown device 'tpu9'. Available: cpu"),
        ({"device": "cuda:99"}, BackendError, "finds no device 'cuda:99'"),
        ({"threads": 0}, ValueError, "threads must be at least 1"),
        ({"precision": "bfloat16"}, ValueError, "in their own precision"),
        ({"runtime": "openvino"}, ValueError, "Leave out runtime"),
    ],
)
def test_unusable_settings(torchscript, options, error, message):
    with pytest.raises(error, match=message):
        open_any_backend(torchscript[0], **options)


def test_old_pytorch(torchscript, tmp_path, monkeypatch):
    (path := tmp_path / "model.pt2").write_bytes(torchscript[0].read_bytes())
    monkeypatch.setattr(torch, "__version__", "2.6.0+cpu")
    with pytest.raises(ExportError, match=r"need PyTorch 2\.9 or newer; this is 2\.6\.0"):
        open_any_backend(path)
