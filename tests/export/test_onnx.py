"""ONNX files: what the graph has, and that it is right for every batch and size."""

import numpy as np
import pytest
import torch

from tests.export.conftest import export_tiny
from tests.export.helpers import assert_same_detections, batch_of
from tood.errors import ExportError
from tood.export.networks import build_network, example_inputs
from tood.export.options import ExportOptions
from tood.export.wrapper import DetectionNetwork, RawNetwork
from tood.modeling.layers import deform_conv2d
from tood.modeling.tracing import exporting
from tood_runtime.backends import open_backend

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from tood.export.onnx import UNWANTED, require_plain_graph, to_onnx  # noqa: E402

# None of them was traced.
BATCHES = [(1, 64, 64), (2, 96, 160), (3, 61, 130)]


def dimensions(values):
    return {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in values
    }


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return export_tiny(tmp_path_factory.mktemp("raw") / "raw.onnx", raw=True)


def run(backend, inputs):
    return backend.run(*(x.numpy() for x in inputs))


@pytest.mark.parametrize("shape", BATCHES)
def test_detections_of_any_batch_and_size(exported_onnx, shape):
    inputs = batch_of(*shape)
    with torch.no_grad():
        expected = DetectionNetwork(exported_onnx.model)(*inputs)
    assert expected[3].min() > 10
    assert_same_detections(run(open_backend(exported_onnx.path), inputs), expected)


@pytest.mark.parametrize("shape", BATCHES)
def test_raw_outputs_of_any_batch_and_size(raw, shape):
    inputs = batch_of(*shape)
    with torch.no_grad():
        boxes, scores = RawNetwork(raw.model)(*inputs[:2])
    found = run(open_backend(raw.path), inputs)
    np.testing.assert_allclose(found["boxes"], boxes, atol=1e-2)
    np.testing.assert_allclose(found["scores"], scores, atol=1e-5)


def test_sizes_stay_symbolic(exported_onnx, raw):
    """A batch or a size that became a number would be wrong, in silence or with an error."""
    graph = onnx.load(exported_onnx.path).graph
    assert dimensions(graph.input) == {
        "images": ["batch", 3, "height", "width"],
        "image_sizes": ["batch", 2],
        "original_sizes": ["batch", 2],
    }
    assert dimensions(graph.output) == {
        "boxes": ["batch", 100, 4],
        "scores": ["batch", 100],
        "labels": ["batch", 100],
        "num_dets": ["batch"],
    }
    graph = onnx.load(raw.path).graph
    assert dimensions(graph.output) == {
        "boxes": ["batch", "points", 4],
        "scores": ["batch", "points", 5],
    }


def test_graph_is_plain(exported_onnx):
    model = onnx.load(exported_onnx.path)
    assert {node.op_type for node in model.graph.node}.isdisjoint(UNWANTED)
    assert [item.domain for item in model.opset_import] == [""]
    assert model.opset_import[0].version == 19
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
    # The largest constants are weights: nothing that grows with the image.
    counts = {parameter.numel() for parameter in exported_onnx.model.parameters()}
    for tensor in model.graph.initializer:
        assert np.prod(tensor.dims) <= 1000 or np.prod(tensor.dims) in counts, tensor.name
    reached = {value.name for value in model.graph.output}
    for node in reversed(model.graph.node):
        assert reached & set(node.output), f"{node.name} has no effect"
        reached |= set(node.input)
    model.graph.node.append(onnx.helper.make_node("Loop", [], [], "loop"))
    with pytest.raises(ExportError, match="Loop"):
        require_plain_graph(model)


def test_fixed_batch_and_size(tmp_path):
    exported = export_tiny(tmp_path / "fixed.onnx", batch=2, size=(96, 64))
    graph = onnx.load(exported.path).graph
    assert dimensions(graph.input)["images"] == [2, 3, 64, 96]
    inputs = batch_of(2, 64, 96)
    with torch.no_grad():
        expected = DetectionNetwork(exported.model)(*inputs)
    assert_same_detections(run(open_backend(exported.path), inputs), expected)
    with pytest.raises(ValueError, match="exactly 64 pixels in height"):
        run(open_backend(exported.path), batch_of(2, 96, 96))


@pytest.mark.slow
@pytest.mark.parametrize("opset", [17, 18, 20])
def test_opsets(opset, tmp_path):
    exported = export_tiny(tmp_path / "opset.onnx", opset=opset)
    assert onnx.load(exported.path).opset_import[0].version == opset
    inputs = batch_of(1, 96, 128)
    with torch.no_grad():
        expected = DetectionNetwork(exported.model)(*inputs)
    assert_same_detections(run(open_backend(exported.path), inputs), expected)


class Convolution(torch.nn.Module):
    """One deformable convolution of 4 groups."""

    input_names, output_names, dtype = ("x", "offset", "mask"), ("y",), torch.float32
    fixed_axes: dict = {}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(6, 8, 3, 3))

    def symbolic_axes(self, dynamic):
        return {
            name: {0: "batch", 2: "height", 3: "width"} for name in ("x", "offset", "mask", "y")
        }

    def forward(self, x, offset, mask):
        return deform_conv2d(x, offset, self.weight, None, mask, padding=1)


@pytest.mark.parametrize("form", ["torchvision", "gather"])
def test_deformable_convolution(form):
    """As the operator and as gathers: equal to eager, at sizes that were not traced."""
    needed = "1.25" if form == "torchvision" else None  # the first with DeformConv
    onnxruntime = pytest.importorskip("onnxruntime", minversion=needed)

    def inputs(n, height, width):
        offsets = torch.randn(n, 72, height, width) * 3
        return torch.randn(n, 8, height, width), offsets, torch.rand(n, 36, height, width)

    network = Convolution()
    with exporting(form):
        model = to_onnx(network, inputs(2, 5, 7), 19)
    operators = {node.op_type for node in model.graph.node}
    assert ("DeformConv" in operators) == (form == "torchvision")
    assert "GridSample" not in operators
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for shape in ((1, 6, 4), (3, 5, 9)):
        args = inputs(*shape)
        (found,) = session.run(
            None, dict(zip(network.input_names, map(np.asarray, args), strict=True))
        )
        with torch.no_grad():
            np.testing.assert_allclose(found, network(*args), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("runtime_infers", [True, False])
def test_constant_sizes_are_refused(tiny, monkeypatch, runtime_infers):
    """A graph whose batch became a number does not get past the exporter.

    Nor where ONNX Runtime does not infer it, as 1.23 does not.
    """
    if not runtime_infers:
        monkeypatch.setattr("tood.export.onnx.simplify", lambda model: model)

    class Baked(RawNetwork):
        def forward(self, images, image_sizes):
            boxes, scores = super().forward(images, image_sizes)
            return boxes.reshape(2, boxes.shape[1], 4), scores

    options = ExportOptions(raw=True)
    network = Baked(tiny[0]).eval()
    with exporting(), pytest.raises(ExportError, match="batch of boxes became the number 2"):
        to_onnx(network, example_inputs(network, options), 19)


def test_missing_package(monkeypatch, tiny):
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    network = build_network(tiny[0], ExportOptions())
    with pytest.raises(ExportError, match=r"tood-detectron2\[onnx\]"):
        to_onnx(network, (), 19)
