"""RuntimeDetector gives the Detector's results."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from tood.inference.detector import Detector
from tood_runtime.detector import RuntimeDetector
from tood_runtime.image_io import ImageReadError, read_image
from tood_runtime.model_info import ModelFileError

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def detector(exported_onnx) -> RuntimeDetector:
    return RuntimeDetector(exported_onnx.path, threads=1)


@pytest.fixture(scope="module")
def reference(exported_onnx) -> Detector:
    return Detector(exported_onnx.model, exported_onnx.cfg)


def assert_same(found, expected):
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found.xyxy, expected.xyxy, atol=1e-2, rtol=0)
    np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-5, rtol=0)
    assert found.class_id.tolist() == expected.class_id.tolist()
    assert found.class_names == expected.class_names
    for name in ("image_size", "path", "apply_orientation"):
        assert getattr(found, name) == getattr(expected, name)


def threshold_between(detections) -> float:
    """A threshold in the widest gap of the upper half of the scores: no tie decides."""
    scores = detections.confidence[: len(detections) // 2]
    i = int(np.argmax(scores[:-1] - scores[1:]))
    return float(scores[i] + scores[i + 1]) / 2


def test_results_equal_the_detector_s(detector, reference, photos):
    """From a path, an array in both orders, and a PIL image."""
    lowest = detector.lowest_threshold
    for path in sorted(photos.iterdir()):
        assert_same(detector(path, score_threshold=lowest), reference(path, score_threshold=lowest))
        pixels = read_image(path)
        expected = reference(pixels, score_threshold=lowest)
        assert_same(detector(pixels, score_threshold=lowest), expected)
        bgr = pixels[:, :, ::-1]
        assert_same(detector(bgr, score_threshold=lowest, channel_order="BGR"), expected)
        assert_same(detector(Image.fromarray(pixels), score_threshold=lowest), expected)
        threshold = threshold_between(expected)
        few = reference(pixels, score_threshold=threshold)
        assert len(few) < len(expected)
        assert_same(detector(pixels, score_threshold=threshold), few)


def test_raw_files_give_the_same_results(exported_raw, reference, photos):
    detector = RuntimeDetector(exported_raw.path, threads=1)
    assert detector.lowest_threshold == 0
    for path in sorted(photos.iterdir()):
        expected = reference(path, score_threshold=0.02)
        assert_same(detector(path, score_threshold=0.02), expected)
        threshold = threshold_between(expected)
        assert_same(
            detector(path, score_threshold=threshold), reference(path, score_threshold=threshold)
        )
    assert len(detector(path, score_threshold=0)) == 100


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_batches_equal_single_images(detector, reference, photos, batch_size):
    """Mixed sizes, in their order, by path and as arrays."""
    paths, lowest = sorted(photos.iterdir()) * 2, detector.lowest_threshold
    options = {"batch_size": batch_size, "score_threshold": lowest}
    expected = [reference(path, score_threshold=lowest) for path in paths]
    for found, single, path in zip(
        detector.predict(map(str, paths), **options), expected, paths, strict=True
    ):
        assert_same(found, single)
        assert found.path == str(path)
    arrays = [np.ascontiguousarray(read_image(path)[:, :, ::-1]) for path in paths]
    results = detector.predict(arrays, channel_order="BGR", **options)
    for found, single in zip(results, expected, strict=True):
        assert_same(found, dataclasses.replace(single, path=None))


def test_images_are_read_when_their_batch_is_due(detector):
    def images():
        yield np.zeros((40, 40, 3), np.uint8)
        raise RuntimeError("too early")

    results = detector.predict(images())
    assert next(results).image_size == (40, 40)
    with pytest.raises(RuntimeError, match="too early"):
        next(results)


def test_orientation_follows_the_file(detector, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(tmp_path / "x.jpg", exif=exif)
    found = detector(tmp_path / "x.jpg")
    assert found.image_size == (60, 40) and found.apply_orientation
    assert found.draw().size == (320, 480)


def test_errors(detector, tmp_path):
    image = np.zeros((8, 8, 3), np.uint8)
    for arguments, options, error, message in (
        ([image], {"score_threshold": 1.5}, ValueError, "between 0 and 1, got 1.5"),
        ([image], {"channel_order": "GBR"}, ValueError, "Available: BGR, RGB"),
        ([image[:, :, 0]], {}, ValueError, "Repeat a gray image"),
        ([image.astype(float)], {}, TypeError, "float64"),
        ([None], {}, TypeError, "cv2.imread"),
        ([tmp_path / "x.jpg"], {}, ImageReadError, "does not exist"),
        (
            [image],
            {"score_threshold": 0.01},
            ModelFileError,
            r"0\.01 is below 0\.0.* tood export \.\.\. --opts MODEL\.TOOD\.SCORE_THRESH_TEST 0\.01",
        ),
    ):
        with pytest.raises(error, match=message):
            detector(*arguments, **options)
    # At the call, before the first result is asked for.
    for options in ({"batch_size": 0}, {"score_threshold": 0.01}, {"score_threshold": -1}):
        with pytest.raises(ValueError, match="batch_size|score_threshold"):
            detector.predict([image], **options)


class FixedBackend:
    """Finds one object per image, at its edges; takes batches of two 64x96 images."""

    name = "fixed"

    def __init__(self, info):
        self.info = info
        self.calls = []

    def run(self, images, image_sizes, original_sizes):
        self.calls.append((images, image_sizes, original_sizes))
        boxes = np.zeros((2, 3, 4), np.float32)
        boxes[:, 0, 2:] = original_sizes[:, ::-1]
        scores = np.array([[0.9, 0, 0]] * 2, np.float32)
        labels = np.array([[1, -1, -1]] * 2)
        return {"boxes": boxes, "scores": scores, "labels": labels, "num_dets": np.array([1, 1])}


def test_files_of_a_fixed_batch_and_size(make_info):
    backend = FixedBackend(make_info(batch=2, height=64, width=96, class_names=["a"]))
    detector = RuntimeDetector(backend)
    images = [np.zeros((50, 60, 3), np.uint8), np.zeros((200, 300, 3), np.uint8)]
    for results in (
        [detector(image) for image in images],
        list(detector.predict(images)),
        list(detector.predict(images, batch_size=3)),
    ):
        assert [x.xyxy.tolist() for x in results] == [[[0, 0, 60, 50]], [[0, 0, 300, 200]]]
        assert [x.class_names for x in results] == [["class 1"]] * 2
    assert len(backend.calls) == 4  # two batches that were filled up, and two full ones
    assert all(call[0].shape == (2, 3, 64, 96) for call in backend.calls)
    assert len(list(detector.predict(images[:1] * 5, batch_size=5))) == 5
    assert len(backend.calls) == 7
