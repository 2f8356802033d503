"""Exported files in the place of weights: the Detector's results, options and errors."""

import numpy as np
import pytest
from PIL import Image

from tood.errors import ConfigError
from tood.inference import Detections, Detector, ExportedModel
from tood_runtime.detector import RuntimeDetector
from tood_runtime.image_writing import save_image
from tood_runtime.model_info import ModelFileError

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def reference(exported_onnx) -> Detector:
    """The model in PyTorch."""
    return Detector(exported_onnx.model, exported_onnx.cfg)


@pytest.fixture(scope="module")
def from_file(exported_onnx) -> Detector:
    return Detector.from_pretrained(exported_onnx.path)


def assert_near(actual: Detections, expected: Detections) -> None:
    assert len(actual) == len(expected) > 0
    np.testing.assert_allclose(actual.xyxy, expected.xyxy, rtol=0, atol=1e-2)
    np.testing.assert_allclose(actual.confidence, expected.confidence, rtol=0, atol=1e-4)
    assert actual.class_id.tolist() == expected.class_id.tolist()
    assert actual.class_names == expected.class_names
    assert (actual.image_size, actual.path) == (expected.image_size, expected.path)


def test_all_kinds_of_images_equal_the_model(exported_onnx, reference, from_file, image, tmp_path):
    save_image(image, path := tmp_path / "x.png")
    assert_near(from_file(path), reference(path))
    assert_near(from_file(Image.fromarray(image)), reference(image))
    assert_near(from_file(image, score_threshold=0.2), reference(image, score_threshold=0.2))
    bgr = image[:, :, ::-1]
    assert_near(from_file(bgr, channel_order="BGR"), reference(image))
    with pytest.raises(AssertionError):  # the order matters
        assert_near(from_file(bgr), reference(image))
    assert_near(from_file(image), RuntimeDetector(exported_onnx.path)(image))


@pytest.mark.parametrize("size", [(41, 30), (300, 100), (3, 900), (1, 1)])
def test_sizes(reference, from_file, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    assert_near(from_file(image, score_threshold=0.02), reference(image, score_threshold=0.02))


def test_stored_pixels_and_sizes_of_a_config(exported_onnx, image, tmp_path):
    """What is not fixed in the file can be changed, as with weights."""
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(image).save(tmp_path / "x.png", exif=exif)
    cfg = exported_onnx.cfg.clone()
    cfg.INPUT.APPLY_EXIF_ORIENTATION = False
    cfg.INPUT.MIN_SIZE_TEST = 64
    expected = Detector(exported_onnx.model, cfg)(tmp_path / "x.png")
    cfg.MODEL.WEIGHTS = str(exported_onnx.path)
    found = Detector.from_config(cfg)(tmp_path / "x.png")
    assert_near(found, expected)
    assert found.image_size == (120, 200) and found.draw().size == (480, 288)


def test_attributes(exported_onnx, from_file):
    assert isinstance(from_file.model, ExportedModel) and not list(from_file.model.parameters())
    assert from_file.class_names == ["circle", "square", "triangle", "star", "cross"]
    assert from_file.category_ids == [1, 2, 3, 5, 8]
    cfg = from_file.cfg
    assert cfg.MODEL.WEIGHTS == str(exported_onnx.path) and cfg.MODEL.DEVICE == "cpu"
    assert cfg.INPUT == exported_onnx.cfg.INPUT and cfg.MODEL.TOOD == exported_onnx.cfg.MODEL.TOOD


def test_a_runtime_without_the_gpu(exported_onnx, reference, image, caplog):
    """As on a GPU machine with the package onnxruntime: a config's "cuda" is no error."""
    cfg = exported_onnx.cfg.clone()
    cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE = str(exported_onnx.path), "cuda:0"
    model = ExportedModel.from_config(cfg)
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        assert "cannot use 'cuda:0'" in caplog.text and "The CPU runs it now." in caplog.text
    assert_near(Detector(model, cfg)(image), reference(image))


def test_a_file_in_the_place_of_weights(exported_onnx, reference, image, tmp_path):
    (tmp_path / "config.yaml").write_text(exported_onnx.cfg.dump())
    config = tmp_path / "config.yaml"
    detector = Detector.from_pretrained(config, weights=exported_onnx.path)
    assert_near(detector(image), reference(image))
    for key, value, expected in (
        ("INPUT.FORMAT", "BGR", "RGB"),
        ("MODEL.TOOD.NMS_THRESH_TEST", 0.5, "0.6"),
        ("MODEL.PIXEL_STD", [1.0, 1.0, 1.0], r"\[58\.395, "),
        ("TEST.DETECTIONS_PER_IMAGE", 300, "100"),
    ):
        cfg = exported_onnx.cfg.clone()
        cfg.merge_from_list([key, value, "MODEL.WEIGHTS", str(exported_onnx.path)])
        with pytest.raises(ConfigError, match=rf"^{key} is .*tiny\.onnx.* with {expected}"):
            Detector.from_config(cfg)
    with pytest.raises(ConfigError, match=r"NUM_CLASSES is 80, but .* with 5"):
        Detector.from_pretrained("TOOD-R50-1x", weights=exported_onnx.path)


def test_errors_are_one_line(exported_onnx, from_file, image, tmp_path):
    path = exported_onnx.path
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "page.onnx").write_text("<html>")
    (tmp_path / "cut.onnx").write_bytes(path.read_bytes()[:-1000])
    (tmp_path / "folder.onnx").mkdir()
    for error, message, call in (
        (ConfigError, "holds its weights", lambda: Detector.from_pretrained(path, weights="w.pth")),
        (ConfigError, "Unknown device 'gpu'", lambda: Detector.from_pretrained(path, device="gpu")),
        (ModelFileError, "no model file", lambda: Detector.from_pretrained(tmp_path / "no.onnx")),
        (ModelFileError, "damaged", lambda: Detector.from_pretrained(tmp_path / "empty.onnx")),
        (ModelFileError, "damaged", lambda: Detector.from_pretrained(tmp_path / "page.onnx")),
        (ModelFileError, "damaged", lambda: Detector.from_pretrained(tmp_path / "cut.onnx")),
        (ModelFileError, "folder", lambda: Detector.from_pretrained(tmp_path / "folder.onnx")),
        (ConfigError, "0.01 is below .* 0.02", lambda: from_file(image, score_threshold=0.01)),
        (ValueError, "between 0 and 1", lambda: from_file(image, score_threshold=1.1)),
        (ValueError, "channel_order 'GBR'", lambda: from_file(image, channel_order="GBR")),
    ):
        with pytest.raises(error, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_other_peoples_files_are_refused(exported_onnx, tmp_path):
    """Without metadata, nobody knows what the outputs mean."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(exported_onnx.path)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "x.onnx")
    with pytest.raises(ModelFileError, match="no metadata of this project"):
        Detector.from_pretrained(tmp_path / "x.onnx")
