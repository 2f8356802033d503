"""Traces of the model: right for every batch and size, or refused."""

import pytest
import torch
from detectron2.export import TracingAdapter
from detectron2.modeling import build_model
from fvcore.nn import FlopCountAnalysis
from torch import nn

from tood.modeling.layers import deform_conv2d, dynamic_conv1x1
from tood.modeling.tracing import deform_conv_operator, exporting, is_tracing

pytestmark = [
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:.torch.jit.trace:FutureWarning"),
]


class Function(nn.Module):
    """A function as a module, which the tracer needs."""

    def __init__(self, function, model=None):
        super().__init__()
        self.function, self.model = function, model

    def forward(self, *args):
        return self.function(*args)


def trace(function, *args, model=None):
    with torch.no_grad():
        return torch.jit.trace(Function(function, model), args, check_trace=False)


@pytest.fixture
def model(tiny_cfg):
    return build_model(tiny_cfg).eval()


@pytest.mark.parametrize("way", ["adapter", "trace", "export"])
def test_tracing_the_whole_model_names_the_exporter(model, way):
    """The result would be wrong by hundreds of pixels on an image of another size."""
    inputs = [{"image": torch.zeros(3, 64, 96)}]

    def scores_of(image):
        return model([{"image": image}])[0]["instances"].scores

    with pytest.raises(RuntimeError, match=r"tood\.export\.export_model"):
        if way == "adapter":
            adapter = TracingAdapter(model, inputs, lambda m, x: m.inference(x))
            torch.jit.trace(adapter, adapter.flattened_inputs)
        elif way == "trace":
            trace(scores_of, inputs[0]["image"], model=model)
        else:
            network = Function(scores_of, model)
            torch.export.export(network, (inputs[0]["image"],), strict=False)


def test_flops_can_be_counted(model):
    """fvcore traces too, but never runs what it has traced."""
    analysis = FlopCountAnalysis(
        TracingAdapter(model, [{"image": torch.zeros(3, 64, 96)}], lambda m, x: m.inference(x)),
        (torch.zeros(3, 64, 96),),
    )
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    assert analysis.total() > 1e8


@pytest.mark.parametrize("head", ["TOODHead", "ParallelHead"])
def test_predict_is_right_for_other_batches_and_sizes(tiny_cfg, head):
    tiny_cfg.MODEL.TOOD.HEAD.NAME = head
    model = build_model(tiny_cfg).eval()

    def predict(images):
        grid, predictions = model.predict(model.backbone(images))
        return grid.anchors, *predictions.scores, *predictions.boxes

    traced = trace(predict, torch.randn(2, 3, 128, 96), model=model)
    for shape in ((1, 3, 64, 160), (3, 3, 96, 64)):
        images = torch.randn(shape)
        with torch.no_grad():
            for ours, expected in zip(traced(images), predict(images), strict=True):
                torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("groups, modulated", [(1, True), (4, True), (2, False)])
@pytest.mark.parametrize("operator", ["torchvision", "gather"])
def test_traced_deformable_convolution(operator, groups, modulated):
    """Far offsets included, and sizes other than the traced one."""

    def inputs(n, height, width):
        mask = torch.rand(n, 9 * groups, height, width) if modulated else None
        offsets = torch.randn(n, 18 * groups, height, width) * 4
        return torch.randn(n, 8, height, width), offsets, mask

    weight, bias = torch.randn(6, 8, 3, 3), torch.randn(6)

    def convolve(x, offset, mask=None):
        return deform_conv2d(x, offset, weight, bias, mask, padding=1)

    with exporting(operator):
        traced = trace(convolve, *(t for t in inputs(2, 5, 7) if t is not None))
    names = {node.kind() for node in traced.inlined_graph.nodes()}
    assert ("torchvision::deform_conv2d" in names) == (operator == "torchvision")
    assert "aten::embedding_bag" not in names
    for n, height, width in ((1, 6, 4), (3, 5, 9)):
        args = [t for t in inputs(n, height, width) if t is not None]
        torch.testing.assert_close(traced(*args), convolve(*args), rtol=1e-4, atol=1e-4)


def test_traced_dynamic_convolution():
    traced = trace(dynamic_conv1x1, torch.randn(2, 4, 5, 6), torch.randn(2, 3, 4))
    for n in (1, 3):
        x, weight = torch.randn(n, 4, 7, 2), torch.randn(n, 3, 4)
        torch.testing.assert_close(traced(x, weight), dynamic_conv1x1(x, weight))


def test_state_ends_with_the_block():
    assert not is_tracing() and deform_conv_operator() == "torchvision"
    with pytest.raises(ZeroDivisionError), exporting("gather"):
        assert deform_conv_operator() == "gather"
        raise ZeroDivisionError
    assert deform_conv_operator() == "torchvision"
