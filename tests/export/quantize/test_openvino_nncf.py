from dataclasses import replace

import numpy as np
import pytest

from tests.export.quantize.helpers import draw_images
from tood.export.quantize import is_quantized, quantize
from tood_runtime.backends import open_backend
from tood_runtime.backends.openvino import get_core

openvino = pytest.importorskip("openvino")
pytest.importorskip("nncf")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def files(exported_onnx, tmp_path_factory):
    """A float32 and an int8 file."""
    folder = tmp_path_factory.mktemp("openvino")
    model = openvino.convert_model(str(exported_onnx.path))
    openvino.save_model(model, str(folder / "float.xml"), compress_to_fp16=False)
    images = draw_images(folder, 8)
    info = quantize(
        folder / "float.xml",
        folder / "int8.xml",
        kind="openvino",
        images=images,
        info=exported_onnx.info,
    )
    return folder / "float.xml", folder / "int8.xml", info


def test_only_backbone_and_layers_are_quantized(files):
    model = get_core().read_model(str(files[1]))
    convolutions = [op for op in model.get_ops() if op.get_type_name() in ("Convolution", "MatMul")]
    # NNCF quantizes before the stem's pooling, which does not change the numbers.
    quantized = {
        op.get_friendly_name(): op.input_value(0).get_node().get_type_name()
        in ("FakeQuantize", "MaxPool")
        for op in convolutions
    }
    assert quantized == {name: is_quantized(name) for name in quantized}
    assert sum(quantized.values()) == 38


def test_sizes_stay_symbolic_and_metadata_is_kept(exported_onnx, files):
    backend = open_backend(files[1], threads=1)
    assert backend.info == files[2]
    assert replace(backend.info, versions={}) == replace(
        exported_onnx.info, precision="int8", versions={}
    )
    model = get_core().read_model(str(files[1]))
    assert str(model.input("images").get_partial_shape()) == "[?,3,?,?]"
    for size in ((64, 96), (80, 64)):
        sizes = np.array([size] * 3)
        images = np.random.default_rng(0).uniform(0, 255, (3, 3, *size)).astype(np.float32)
        found = backend.run(images, sizes, sizes)
        assert found["boxes"].shape[0] == 3 and found["num_dets"].min() > 0
