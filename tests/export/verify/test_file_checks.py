import dataclasses

import numpy as np
import pytest

from tood.export.verify.file_checks import check_metadata, check_outputs, check_shapes
from tood.export.verify.images import make_batches, prepare_images


@pytest.fixture
def backend(make_backend):
    return make_backend()


def test_right_metadata_has_no_problem(confident, backend):
    assert check_metadata(backend.info, *confident) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("class_names", ["class 1", "class 0", "class 2", "class 3", "class 4"]),
        ("category_ids", [1, 2, 3, 5, 4]),
        ("channel_order", "BGR"),
        ("apply_exif_orientation", False),
        ("min_size", 64),
        ("max_size", 97),
        ("size_divisor", 64),
        ("level_strides", [4, 8, 16, 32, 64]),
        ("score_threshold", 0.05),
        ("nms_threshold", 0.5),
        ("topk_candidates", 100),
        ("max_detections", 300),
    ],
)
def test_each_property_is_compared_with_the_model(confident, backend, name, value):
    (problem,) = check_metadata(dataclasses.replace(backend.info, **{name: value}), *confident)
    assert problem.startswith(f"The metadata {name!r} is")
    assert repr(value) in problem


def test_the_config_in_the_metadata_is_compared(confident, backend):
    text = backend.info.config.replace("NUM_CONVS: 2", "NUM_CONVS: 6")
    assert text != backend.info.config
    problems = check_metadata(dataclasses.replace(backend.info, config=text), *confident)
    assert problems == ["The config in the metadata has other values of MODEL.TOOD.HEAD.NUM_CONVS."]
    for text in ("", "a: [", "5"):
        problems = check_metadata(dataclasses.replace(backend.info, config=text), *confident)
        assert problems == ["The config in the metadata has other values of all keys."]


def outputs_of(backend, batch):
    shapes = {"boxes": (1, 2, 4), "scores": (1, 2, 5)}
    return backend.run(*batch.arrays()), shapes


@pytest.fixture
def batch(confident, backend):
    images = prepare_images(confident[1], backend.info, None)
    return make_batches(images, 3, backend.info)[0]


def change_row(outputs, name, value, row=0):
    array = outputs[name].copy()
    array[0, row] = value
    return array


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("boxes", lambda o: o["boxes"][:, :, :3], "has shape"),
        ("boxes", lambda o: o["boxes"][0], "has shape"),
        ("scores", lambda o: o["scores"][:1], "has shape"),
        ("scores", lambda o: o["scores"][:, :-1], "has shape"),
        ("labels", lambda o: o["labels"].astype(np.float32), "type float32"),
        ("num_dets", lambda o: o["num_dets"][:, None], "has shape"),
        ("num_dets", lambda o: o["num_dets"] + 1000, "'num_dets' is"),
        ("scores", lambda o: change_row(o, "scores", np.nan), "NaN or infinite"),
        ("boxes", lambda o: change_row(o, "boxes", np.inf), "NaN or infinite"),
        ("boxes", lambda o: change_row(o, "boxes", -1), "boxes outside"),
        ("boxes", lambda o: change_row(o, "boxes", 5000), "boxes outside"),
        ("labels", lambda o: change_row(o, "labels", 5), "labels that are no class"),
        ("labels", lambda o: change_row(o, "labels", -1), "labels that are no class"),
        ("scores", lambda o: change_row(o, "scores", 0), "scores of 0 or below"),
        ("scores", lambda o: change_row(o, "scores", 1.0, row=1), "not sorted by score"),
        ("scores", lambda o: change_row(o, "scores", 0.1, row=-1), "rows from 'num_dets' on"),
        ("labels", lambda o: change_row(o, "labels", 0, row=-1), "rows from 'num_dets' on"),
    ],
)
def test_the_form_of_detections(backend, batch, name, change, problem):
    outputs, shapes = outputs_of(backend, batch)
    assert outputs["num_dets"][0] < outputs["scores"].shape[1], "the first image has a free row"
    assert check_outputs(outputs, backend.info, batch, shapes) == []
    outputs[name] = change(outputs)
    assert problem in " ".join(check_outputs(outputs, backend.info, batch, shapes))


def test_missing_outputs_and_too_many_rows(backend, batch):
    outputs, shapes = outputs_of(backend, batch)
    few = dataclasses.replace(backend.info, max_detections=10)
    assert check_outputs(outputs, few, batch, shapes) == [
        "The outputs have 100 rows: at most 10 expected."
    ]
    del outputs["labels"]
    assert check_outputs(outputs, backend.info, batch, shapes) == ["The file has no output labels."]


def test_the_form_of_raw_output(make_backend, batch):
    backend = make_backend(raw=True)
    outputs, _ = outputs_of(backend, batch)
    shapes = {name: array.shape for name, array in outputs.items()}
    assert check_outputs(outputs, backend.info, batch, shapes) == []
    outputs["scores"] = outputs["scores"][:, :-1]
    assert "has shape" in check_outputs(outputs, backend.info, batch, shapes)[0]


ANY = ["batch", 3, "height", "width"]


def write_shapes(path, images, boxes, scores):
    """An ONNX file without nodes."""
    onnx = pytest.importorskip("onnx")
    value = onnx.helper.make_tensor_value_info
    kinds = onnx.TensorProto
    inputs = [
        value("images", kinds.FLOAT, images), value("image_sizes", kinds.INT64, [images[0], 2])
    ]  # fmt: skip
    outputs = [value("boxes", kinds.FLOAT, boxes), value("scores", kinds.FLOAT, scores)]
    graph = onnx.helper.make_graph([], "graph", inputs, outputs)
    onnx.save(onnx.helper.make_model(graph), str(path))
    return path


@pytest.mark.parametrize(
    ("images", "boxes", "scores", "problems"),
    [
        (ANY, ["batch", "points", 4], ["batch", "points", 5], []),
        ([2, 3, "height", "width"], ["batch", "points", 4], ["batch", "points", 5],
         ["The input 'images' has the shape (2, 3, any, any): expected (any, 3, any, any).",
          "The input 'image_sizes' has the shape (2, 2): expected (any, 2)."]),
        (["batch", 3, 64, "width"], ["batch", "points", 4], ["batch", "points", 5],
         ["The input 'images' has the shape (any, 3, 64, any): expected (any, 3, any, any)."]),
        (ANY, [2, "points", 4], ["batch", "points", 5],
         ["The output 'boxes' has the shape (2, any, 4), but the file is to take any batch and "
          "size."]),
        (ANY, ["batch", "points", 4], ["batch", 820, 5],
         ["The output 'scores' has the shape (any, 820, 5), but the file is to take any batch and "
          "size."]),
    ],
)  # fmt: skip
def test_shapes_of_a_raw_onnx_file(make_backend, tmp_path, images, boxes, scores, problems):
    info = make_backend(raw=True).info
    path = write_shapes(tmp_path / "model.onnx", images, boxes, scores)
    assert check_shapes(path, info) == problems


def test_shapes_of_a_fixed_file(make_backend, tmp_path):
    info = dataclasses.replace(make_backend(raw=True).info, batch=1, height=64, width=96)
    path = write_shapes(tmp_path / "model.onnx", [1, 3, 64, 96], [1, 128, 4], [1, 128, 5])
    assert check_shapes(path, info) == []
    path = write_shapes(tmp_path / "model.onnx", ANY, [1, 128, 4], [1, 128, 5])
    assert check_shapes(path, info)[0] == (
        "The input 'images' has the shape (any, 3, any, any): expected (1, 3, 64, 96)."
    )


def test_shapes_of_an_openvino_file(make_backend, tmp_path):
    openvino = pytest.importorskip("openvino")
    from openvino import opset13 as ops

    def write(batch):
        images = ops.parameter([batch, 3, -1, -1], np.float32, name="images")
        sizes = ops.parameter([-1, 2], np.int64, name="image_sizes")
        boxes = ops.reshape(images, np.array([0, -1, 4]), True)
        scores = ops.reshape(images, np.array([0, -1, 5]), True)
        for node, name in ((images, "images"), (sizes, "image_sizes"), (boxes, "boxes")):
            node.output(0).get_tensor().set_names({name})
        scores.output(0).get_tensor().set_names({"scores"})
        results = [ops.result(boxes), ops.result(scores)]
        path = tmp_path / "model.xml"
        openvino.save_model(openvino.Model(results, [images, sizes]), path)
        return path

    info = make_backend(raw=True).info
    assert check_shapes(write(-1), info) == []
    assert check_shapes(write(2), info) == [
        "The input 'images' has the shape (2, 3, any, any): expected (any, 3, any, any).",
        "The output 'boxes' has the shape (2, any, 4), but the file is to take any batch and size.",
        "The output 'scores' has the shape (2, any, 5), but the file is to take any batch and "
        "size.",
    ]


def test_files_without_shapes_are_not_read(make_backend, tmp_path):
    assert check_shapes(tmp_path / "model.torchscript", make_backend().info) == []
