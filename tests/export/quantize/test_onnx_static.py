from dataclasses import replace

import numpy as np
import pytest
from detectron2.modeling import build_model

from tests.export.helpers import make_confident
from tests.export.quantize.helpers import draw_images
from tood.errors import ExportError
from tood.export.exporter import export_model
from tood.export.options import ExportOptions
from tood.export.quantize import CalibrationBatches, QuantizationSettings, is_quantized, quantize
from tood_runtime.backends import open_backend
from tood_runtime.model_info import ModelInfo

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SENSITIVE = ("tood_cls", "tood_reg", "cls_prob_module", "reg_offset_module", "layer_attention")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return draw_images(tmp_path_factory.mktemp("images"), 8)


@pytest.fixture(scope="module")
def int8_path(exported_onnx, images, tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "int8.onnx"
    quantize(exported_onnx.path, path, kind="onnx", images=images, info=exported_onnx.info)
    return path


@pytest.fixture(scope="module")
def graph(int8_path):
    return onnx.load(str(int8_path)).graph


def quantized_nodes(graph):
    """Whether each convolution and matrix product is computed in int8, by name."""
    producers = {name: node.op_type for node in graph.node for name in node.output}
    return {
        node.name: {producers.get(name) for name in node.input[:2]} == {"DequantizeLinear"}
        for node in graph.node
        if node.op_type in ("Conv", "MatMul")
    }


def test_only_backbone_and_layers_are_quantized(graph):
    quantized = quantized_nodes(graph)
    assert quantized == {name: is_quantized(name) for name in quantized}
    for part in SENSITIVE:
        assert [name for name in quantized if part in name and not quantized[name]], part
    # 20 of the backbone, 8 of the FPN, 2 of the head on five levels.
    assert sum(quantized.values()) == 38


def test_predictors_read_the_features_in_float(graph):
    producers = {name: node for node in graph.node for name in node.output}
    stacks = [
        node
        for node in graph.node
        if node.op_type == "Concat"
        and all(producers[name].op_type == "Relu" for name in node.input if name in producers)
    ]
    assert len(stacks) == 5  # no DequantizeLinear between the layers and the stack
    assert "Identity" not in {node.op_type for node in graph.node}


def test_weights_have_seven_bits(graph):
    weights = [
        onnx.numpy_helper.to_array(item)
        for item in graph.initializer
        if item.data_type == onnx.TensorProto.INT8 and len(item.dims) == 4
    ]
    # The 2 layers of the head are stored once for all levels.
    assert len(weights) == 30
    assert {int(abs(weight.astype(int)).max()) for weight in weights} <= {63, 64}


def test_sizes_stay_symbolic_and_metadata_is_kept(exported_onnx, int8_path):
    model, source = onnx.load(str(int8_path)), onnx.load(str(exported_onnx.path))
    for ours, theirs in ((model.graph.input, source.graph.input),
                         (model.graph.output, source.graph.output)):  # fmt: skip
        assert list(ours) == list(theirs)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param for dim in dims] == ["batch", "", "height", "width"]
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert {item.domain for item in model.opset_import} <= {"", "ai.onnx"}
    info = ModelInfo.from_strings({p.key: p.value for p in model.metadata_props}, "int8.onnx")
    expected = replace(exported_onnx.info, precision="int8", versions=info.versions)
    assert info == expected
    assert exported_onnx.info.versions.items() <= info.versions.items()
    assert {"onnx", "onnxruntime"} <= set(info.versions)


@pytest.mark.parametrize("size", [(64, 96), (80, 64)])
def test_detections_are_those_of_the_float_file(exported_onnx, int8_path, images, size):
    batches = CalibrationBatches(images[:3], replace(exported_onnx.info, batch=3), ["images"])
    batch = np.ascontiguousarray(batches[0]["images"][:, :, : size[0], : size[1]])
    sizes = np.array([size] * 3)
    found, expected = (
        open_backend(path, threads=1).run(batch, sizes, sizes)
        for path in (int8_path, exported_onnx.path)
    )
    assert expected["num_dets"].min() >= 20
    shares = [
        matched_share({name: value[i] for name, value in expected.items()},
                      {name: value[i] for name, value in found.items()})
        for i in range(3)
    ]  # fmt: skip
    assert np.mean(shares) > 0.8, shares
    assert (found["scores"] != expected["scores"]).any()  # it is another file


def matched_share(expected, found, min_iou=0.6, max_score=0.1):
    """Share of the 20 best expected detections that one of the same class matches."""
    count = int(found["num_dets"])
    boxes, labels, scores = (found[name][:count] for name in ("boxes", "labels", "scores"))
    hits = 0
    for i in range(20):
        box = expected["boxes"][i]
        low, high = np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:])
        inter = np.prod((high - low).clip(0), axis=1)
        area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(box[2:] - box[:2])
        near = np.abs(scores - expected["scores"][i]) < max_score
        near &= labels == expected["labels"][i]
        hits += bool((near & (inter / (area - inter) > min_iou)).any())
    return hits / 20


def test_the_same_images_give_the_same_file(exported_onnx, int8_path, images, tmp_path):
    path = tmp_path / "again.onnx"
    quantize(exported_onnx.path, path, kind="onnx", images=images, info=exported_onnx.info)
    assert path.read_bytes() == int8_path.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["again.onnx"]


def test_a_graph_without_known_names_is_refused(exported_onnx, images, tmp_path):
    model = onnx.load(str(exported_onnx.path))
    for i, node in enumerate(model.graph.node):
        node.name = f"node_{i}"
    onnx.save(model, str(tmp_path / "float.onnx"))
    with pytest.raises(ExportError, match="nothing can be quantized"):
        quantize(
            tmp_path / "float.onnx",
            tmp_path / "int8.onnx",
            kind="onnx",
            images=images,
            info=exported_onnx.info,
        )
    assert [file.name for file in tmp_path.iterdir()] == ["float.onnx"]


@pytest.mark.slow
@pytest.mark.parametrize("ranges", ["mean", "percentile"])
def test_other_ranges(exported_onnx, images, tmp_path, ranges):
    quantize(
        exported_onnx.path, tmp_path / "int8.onnx", kind="onnx", images=images[:2],
        info=exported_onnx.info, settings=QuantizationSettings(ranges=ranges),
    )  # fmt: skip
    assert open_backend(tmp_path / "int8.onnx").info.precision == "int8"


@pytest.mark.slow
@pytest.mark.parametrize("form", ["operator", "gather"])
def test_offsets_of_deformable_convolutions_stay_in_float(tiny_cfg, images, tmp_path, form):
    # The first with DeformConv.
    pytest.importorskip("onnxruntime", minversion="1.25" if form == "operator" else None)
    tiny_cfg.MODEL.TOOD.HEAD.NUM_DCN = 1
    tiny_cfg.INPUT.MIN_SIZE_TEST, tiny_cfg.INPUT.MAX_SIZE_TEST = 64, 96
    model = make_confident(build_model(tiny_cfg).eval())
    source, path = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    options = ExportOptions(deform_conv=form)
    info = export_model(model, tiny_cfg, source, options, verify=False).info
    quantize(source, path, kind="onnx", images=images, info=info)
    graph = onnx.load(str(path)).graph
    names = quantized_nodes(graph)
    offsets = [name for name in names if "conv_offset" in name]
    assert len(offsets) == 5  # one per level
    assert not any(names[name] for name in offsets)
    # Backbone and FPN, and the second layer of the head on five levels.
    assert sum(names.values()) == 28 + 5
    assert open_backend(path).info.precision == "int8"
