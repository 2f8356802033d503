"""An exported ONNX file is verified, and each way of corrupting it is caught."""

import shutil

import numpy as np
import pytest

from tood.export.verify import images, verify_export

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def corrupt(exported_onnx, tmp_path, monkeypatch):
    """Verifies the file after a change of its graph: ``corrupt(change)``."""
    monkeypatch.setattr(images, "MIN_IMAGES", 3)

    def run(change):
        proto = onnx.load(str(exported_onnx.path))
        change(proto)
        path = tmp_path / "corrupted.onnx"
        onnx.save(proto, str(path))
        return verify_export(path, exported_onnx.model, exported_onnx.cfg)

    return run


def test_the_file_as_it_was_exported_is_verified(exported_onnx, tmp_path):
    path = shutil.copy(exported_onnx.path, tmp_path / "copy.onnx")
    report = verify_export(path, exported_onnx.model, exported_onnx.cfg)
    assert report.passed, report.failures()
    assert [len(item.batch.images) for item in report.comparisons] == [1] * 9 + [3] * 3
    assert sum(item.near_ties for item in report.comparisons) <= 2
    assert max(item.max_box for item in report.comparisons) > 0, "not compared with itself"
    assert report.runtime.startswith("ONNX Runtime ")


def redirect(proto, output, operator, inputs=(), **attributes):
    """Let an operator with further inputs compute an output of the graph."""
    graph = proto.graph
    (producer,) = (node for node in graph.node if output in node.output)
    index = list(producer.output).index(output)
    producer.output[index] = f"{output}_before"
    names = []
    for number, value in enumerate(inputs):
        names.append(f"{output}_change_{number}")
        graph.initializer.append(onnx.numpy_helper.from_array(value, names[-1]))
    for node in graph.node:
        if node is not producer:
            node.input[:] = [f"{output}_before" if name == output else name for name in node.input]
    node = onnx.helper.make_node(operator, [f"{output}_before", *names], [output], **attributes)
    graph.node.append(node)


def swap_axes(proto):
    redirect(proto, "boxes", "Gather", [np.array([1, 0, 3, 2])], axis=2)


def swap_scores(proto):
    """Those of the second and the third detection."""
    rows = np.arange(100)
    rows[[1, 2]] = [2, 1]
    redirect(proto, "scores", "Gather", [rows], axis=1)


def swap_outputs(proto):
    """Labels and scores, as the types allow."""
    for node in proto.graph.node:
        swapped = {"labels": "num_dets", "num_dets": "labels"}
        node.output[:] = [swapped.get(name, name) for name in node.output]
    for output in proto.graph.output:
        if output.name in ("labels", "num_dets"):
            del output.type.tensor_type.shape.dim[:]
            output.type.tensor_type.ClearField("shape")


def drop_scale(proto):
    """The last product is that of boxes and scales."""
    node = [node for node in proto.graph.node if node.op_type == "Mul"][-1]
    consumers = [n.op_type for n in proto.graph.node if node.output[0] in n.input]
    assert consumers == ["Clip"]
    node.op_type = "Identity"
    del node.input[1:]


def change_array(proto, name, change):
    (array,) = (item for item in proto.graph.initializer if item.name == name)
    values = onnx.numpy_helper.to_array(array).copy()
    array.CopyFrom(onnx.numpy_helper.from_array(change(values), name))


def change_weight(proto):
    """One of 2880 weights, by a tenth of their standard deviation."""

    def change(values):
        values[0, 0, 1, 1] += 0.01
        return values

    change_array(proto, "model.head.tood_cls.weight", change)


def first_node(proto, operator):
    return next(node for node in proto.graph.node if node.op_type == operator)


def swap_channels(proto):
    """Subtract the mean of BGR from RGB."""
    change_array(proto, first_node(proto, "Sub").input[1], lambda mean: mean[::-1].copy())


def change_mean(proto):
    """By a tenth of a gray level."""
    change_array(proto, first_node(proto, "Sub").input[1], lambda mean: mean + mean.dtype.type(0.1))


def use_padding(proto):
    """Do not set what lies outside of the images to 0."""
    node = first_node(proto, "Where")
    (producer,) = (n for n in proto.graph.node if node.input[1] in n.output)
    assert producer.op_type == "Div", "normalized pixels"
    node.op_type = "Identity"
    node.input[:] = [node.input[1]]


def change_nms(proto):
    name = first_node(proto, "NonMaxSuppression").input[3]
    change_array(proto, name, lambda values: values + values.dtype.type(0.01))


@pytest.mark.parametrize(
    "change",
    [
        swap_axes, swap_scores, swap_outputs, drop_scale, change_weight, swap_channels, change_mean,
        use_padding, change_nms,
    ],
)  # fmt: skip
def test_a_corrupted_graph_is_caught(corrupt, change):
    report = corrupt(change)
    assert not report.passed


def test_a_baked_batch_is_caught_by_shapes_and_by_running(corrupt):
    def bake(proto):
        for value in [*proto.graph.input, *proto.graph.output]:
            value.type.tensor_type.shape.dim[0].dim_value = 1

    failures = corrupt(bake).failures()
    assert failures[0] == (
        "The input 'images' has the shape (1, 3, any, any): expected (any, 3, any, any)."
    )
    assert sum("The output" in failure for failure in failures) == 4
    assert sum("Batch of 3" in failure for failure in failures) == 1


def test_swapped_class_names_are_caught(corrupt):
    def swap(proto):
        (item,) = (item for item in proto.metadata_props if item.key == "class_names")
        swapped = item.value.replace('"circle", "square"', '"square", "circle"')
        assert swapped != item.value
        item.value = swapped

    (failure,) = corrupt(swap).failures()
    assert failure.startswith("The metadata 'class_names' is ['square', 'circle', 'triangle'")
