"""Half-precision files: smaller, close to the model, and the model itself stays as it is."""

import pytest
import torch
from torchvision.ops import box_iou

from tests.export.conftest import export_tiny
from tests.export.helpers import batch_of
from tood.errors import ExportError
from tood.export.metadata import build_info
from tood.export.networks import build_network, example_inputs
from tood.export.options import ExportOptions
from tood.export.torch_backends import open_any_backend
from tood.export.torchscript import save_torchscript, to_torchscript
from tood.export.wrapper import DetectionNetwork
from tood.modeling.tracing import exporting
from tood_runtime.model_files import read_model_info

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
HALF = [torch.float16, torch.bfloat16]


def matched_share(found, expected) -> float:
    """The share of the model's detections that a file has with an IoU above 0.8."""
    matched = total = 0
    for index, count in enumerate(expected[3].tolist()):
        boxes, _, labels = (x[index, :count] for x in expected[:3])
        kept = int(found["num_dets"][index])
        same = torch.from_numpy(found["labels"][index, :kept]) == labels[:, None]
        close = box_iou(boxes, torch.from_numpy(found["boxes"][index, :kept])) > 0.8
        matched, total = matched + int((same & close).any(1).sum()), total + count
    return matched / total


def float32_detections(model, inputs):
    with torch.no_grad():
        return DetectionNetwork(model)(*inputs)


@pytest.mark.parametrize("dtype", HALF)
def test_the_model_is_not_changed(tiny, dtype):
    model, _ = tiny
    network = DetectionNetwork(model, dtype)
    assert {x.dtype for x in network.model.parameters()} == {dtype}
    assert {x.dtype for x in model.parameters()} == {torch.float32}
    assert network.pixel_mean.dtype == torch.float32
    assert torch.equal(network.pixel_mean, model.pixel_mean)


def test_float32_needs_no_copy(tiny):
    assert DetectionNetwork(tiny[0]).model is tiny[0]


@pytest.mark.parametrize("dtype", HALF)
def test_outputs_are_float32(tiny, dtype):
    with torch.no_grad():
        boxes, scores, *_ = DetectionNetwork(tiny[0], dtype)(*batch_of(1, 64, 64))
    assert boxes.dtype == scores.dtype == torch.float32
    # Values of half precision have few digits.
    assert (boxes.to(dtype).float() != boxes).any()


def test_onnx(exported_onnx, tmp_path):
    half = export_tiny(tmp_path / "half.onnx", precision="float16")
    size, float_size = (path.stat().st_size for path in (half.path, exported_onnx.path))
    assert 0.49 < size / float_size < 0.55
    backend = open_any_backend(half.path, threads=1)
    assert backend.info.precision == "float16"
    inputs = batch_of(2, 96, 80)
    found = backend.run(*(x.numpy() for x in inputs))
    assert found["boxes"].dtype == found["scores"].dtype == "float32"
    assert matched_share(found, float32_detections(half.model, inputs)) > 0.9


@pytest.mark.parametrize(("precision", "share"), [("float16", 0.9), ("bfloat16", 0.6)])
def test_torchscript(tiny, tmp_path, precision, share):
    model, cfg = tiny
    options = ExportOptions(format="torchscript", precision=precision)
    network = build_network(model, options)
    with exporting():
        traced = to_torchscript(network, example_inputs(network, options))
    path = tmp_path / "half.torchscript"
    save_torchscript(traced, path, build_info(model, cfg, options, name="tiny"))
    assert read_model_info(path).precision == precision
    assert path.stat().st_size < 2.2 * sum(x.numel() for x in model.parameters())
    inputs = batch_of(2, 96, 80)
    found = open_any_backend(path, threads=1).run(*(x.numpy() for x in inputs))
    assert matched_share(found, float32_detections(model, inputs)) > share


@pytest.mark.parametrize(("kind", "hint"), [("onnx", "ONNX Runtime"), ("openvino", "--precision")])
def test_bfloat16_files_without_a_runtime_are_refused(kind, hint):
    with pytest.raises(ExportError, match=f"cannot hold a model in bfloat16.*{hint}"):
        ExportOptions(format=kind, precision="bfloat16")


def test_bfloat16_hint_of_openvino(exported_onnx):
    pytest.importorskip("openvino")
    options = {"runtime": "openvino", "threads": 1, "precision": "bfloat16"}
    inputs = batch_of(2, 96, 80)
    found = open_any_backend(exported_onnx.path, **options).run(*(x.numpy() for x in inputs))
    assert matched_share(found, float32_detections(exported_onnx.model, inputs)) > 0.3
