import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.export.helpers import assert_same_detections, batch_of
from tood.errors import ExportError
from tood.export.networks import build_network
from tood.export.nms import nms_mask
from tood.export.options import ExportOptions

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
openvino = pytest.importorskip("openvino")

from tood.export.openvino import save_openvino, to_openvino  # noqa: E402
from tood_runtime.backends import open_backend  # noqa: E402
from tood_runtime.backends.openvino import get_core  # noqa: E402
from tood_runtime.model_files import read_model_info  # noqa: E402


class MaskNetwork(torch.nn.Module):
    """What NMS keeps, as a graph of its own."""

    def forward(self, boxes, scores, classes):
        return nms_mask(boxes, scores, classes, 0.5, 80, "onnx").int()


@pytest.fixture(scope="module")
def mask_models(tmp_path_factory):
    """The same graph in ONNX Runtime and in OpenVINO: functions of arrays."""
    import onnxruntime

    path = str(tmp_path_factory.mktemp("nms") / "nms.onnx")
    boxes, scores = torch.rand(2, 7, 4), torch.rand(2, 7)
    names = ["boxes", "scores", "classes"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            MaskNetwork(),
            (boxes, scores, torch.zeros(2, 7).long()),
            path,
            dynamo=False,
            opset_version=19,
            input_names=names,
            dynamic_axes={name: {0: "batch", 1: "candidates"} for name in names},
        )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = get_core().compile_model(path, "CPU", settings)
    return (
        lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))[0],
        lambda *arrays: compiled(arrays)[0],
    )


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_nms_marks_no_suppressed_candidate(mask_models, batch):
    # OpenVINO fills the rows of NonMaxSuppression that it does not need with -1, which would be
    # the last candidate of the last image. It is suppressed here by the second.
    boxes = np.array([[0, 0, 9, 9], [50, 0, 59, 9], [0, 50, 9, 59], [50, 0, 59, 10]], np.float32)
    boxes = np.repeat(boxes[None], batch, 0)
    scores = np.tile(np.array([0.9, 0.8, 0.0, 0.7], np.float32), (batch, 1))
    classes = np.tile(np.array([79, 3, 3, 3]), (batch, 1))
    for model in mask_models:
        kept = model(boxes, scores, classes)
        assert kept.tolist() == [[1, 1, 0, 0]] * batch


def test_nms_without_candidates(mask_models):
    boxes = np.tile(np.array([0, 0, 9, 9], np.float32), (2, 5, 1))
    scores = np.zeros((2, 5), np.float32)
    scores[1] = [-1, 0.5, -1, 0.4, -1]
    for model in mask_models:
        kept = model(boxes, scores, np.zeros((2, 5), np.int64))
        assert kept.tolist() == [[0] * 5, [0, 1, 0, 0, 0]]


def test_nms_equals_eager_on_random_boxes(mask_models):
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(3, 300, 2, generator=generator) * 40
    boxes = torch.cat((corners, corners + 5 + torch.rand(3, 300, 2, generator=generator) * 30), 2)
    scores = torch.rand(3, 300, generator=generator)
    scores[1] = -1
    classes = torch.randint(0, 80, (3, 300), generator=generator)
    expected = nms_mask(boxes, scores, classes, 0.5, 80, "portable").int()
    assert 100 < expected[0].sum() < 300
    for model in mask_models:
        kept = model(boxes.numpy(), scores.numpy(), classes.numpy())
        np.testing.assert_array_equal(kept, expected.numpy())


@pytest.fixture(scope="module")
def exported(exported_onnx, tmp_path_factory):
    """The OpenVINO file made from the shared ONNX file."""
    path = tmp_path_factory.mktemp("openvino") / "tiny.xml"
    model = to_openvino(onnx.load(str(exported_onnx.path)))
    save_openvino(model, path, exported_onnx.info)
    return path


@pytest.fixture(scope="module")
def backend(exported):
    return open_backend(exported, threads=1)


def test_names_and_sizes(exported):
    model = get_core().read_model(str(exported))
    inputs = {item.get_any_name(): str(item.partial_shape) for item in model.inputs}
    assert inputs == {
        "images": "[?,3,?,?]",
        "image_sizes": "[?,2]",
        "original_sizes": "[?,2]",
    }
    outputs = {item.get_any_name(): str(item.partial_shape) for item in model.outputs}
    assert outputs == {
        "boxes": "[?,100,4]",
        "scores": "[?,100]",
        "labels": "[?,100]",
        "num_dets": "[?]",
    }


def test_metadata(exported, backend, exported_onnx):
    assert read_model_info(exported) == backend.info == exported_onnx.info


@pytest.mark.parametrize("shape", [(1, 64, 96), (2, 61, 100), (3, 128, 64)])
def test_equals_eager(exported_onnx, backend, shape):
    network = build_network(exported_onnx.model, ExportOptions(format="openvino"))
    inputs = batch_of(*shape)
    with torch.no_grad():
        expected = network(*inputs)
    found = backend.run(*(x.numpy() for x in inputs))
    assert (expected[3] > 20).all()
    assert_same_detections(found, expected)


def test_float16_files_have_half_the_weights(exported_onnx, exported, tmp_path):
    model = to_openvino(onnx.load(str(exported_onnx.path)))
    save_openvino(model, tmp_path / "half.xml", replace(exported_onnx.info, precision="float16"))
    sizes = [path.with_suffix(".bin").stat().st_size for path in (exported, tmp_path / "half.xml")]
    assert 0.49 < sizes[1] / sizes[0] < 0.55
    assert read_model_info(tmp_path / "half.xml").precision == "float16"


def test_deform_conv_is_refused():
    node = onnx.helper.make_node("DeformConv", ["x", "w", "o"], ["y"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], []))
    with pytest.raises(ExportError, match=r"no deformable convolution.*--dcn gather"):
        to_openvino(model)


def test_unknown_operators_are_refused():
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n"])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n"])
    node = onnx.helper.make_node("Nonsense", ["x"], ["y"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [out]))
    with pytest.raises(ExportError, match="cannot convert the model"):
        to_openvino(model)


def test_openvino_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ExportError, match=r"tood-detectron2\[openvino\]"):
        to_openvino(None)
