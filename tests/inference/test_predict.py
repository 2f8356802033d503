"""Many images: batches equal single images, tensors, and threads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from tests.conftest import make_tiny_cfg
from tests.export.helpers import make_confident
from tood.inference import Detector

# Of them some share a padded size, and some only their number of pixels.
SIZES = [(60, 90), (90, 60), (64, 96), (61, 91), (30, 90), (90, 60), (96, 64), (60, 90), (64, 64)]


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]


@pytest.fixture(scope="module", params=["plain", "deformable", "parallel"])
def real_detector(request) -> Detector:
    cfg = make_tiny_cfg()
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 64, 96
    if request.param == "deformable":
        cfg.MODEL.TOOD.HEAD.NUM_DCN = 2
    elif request.param == "parallel":
        cfg.MODEL.TOOD.HEAD.NAME = "ParallelHead"
    torch.manual_seed(0)
    return Detector(make_confident(build_model(cfg).eval()), cfg)


def assert_close(actual, expected):
    assert len(actual) == len(expected) > 0 and actual.image_size == expected.image_size
    np.testing.assert_allclose(actual.confidence, expected.confidence, atol=1e-5, rtol=0)
    np.testing.assert_allclose(actual.xyxy, expected.xyxy, atol=1e-2, rtol=0)
    np.testing.assert_array_equal(actual.class_id, expected.class_id)


@pytest.mark.parametrize("batch_size", [2, 4])
def test_batches_equal_single_images(real_detector, images, batch_size):
    results = real_detector.predict(images, batch_size=batch_size, max_detections=20)
    for found, image in zip(results, images, strict=True):
        assert_close(found, real_detector(image, max_detections=20))


def test_a_mixed_batch_would_differ(real_detector, images):
    """Why sizes are kept apart: T-head's averages and group normalization see the padding."""
    small, large = images[0], np.zeros((200, 96, 3), np.uint8)
    prepared = [real_detector.prepare(image) for image in (small, large)]
    settings = real_detector.validate_options()
    alone = real_detector.detect_prepared(prepared[:1], settings)[0]
    together = real_detector.detect_prepared(prepared, settings)[0]
    same = len(alone.scores) == len(together.scores) and np.allclose(
        alone.scores, together.scores, atol=1e-5
    )
    assert not same


def test_padded_size_is_the_model_s(detector, images):
    for image in images:
        prepared = detector.prepare(image)
        tensor = torch.from_numpy(prepared.pixels.transpose(2, 0, 1).copy())
        batch = detector.model.preprocess_image([{"image": tensor}])
        assert prepared.padded_size == tuple(batch.tensor.shape[2:])


def test_threads_get_their_own_results(detector, images):
    """As in a web service: one detector, several threads."""
    expected = [detector(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(detector, images * 4))
    for found, single in zip(results, expected * 4, strict=True):
        assert_close(found, single)


def test_tensors(assert_same, detector, image):
    expected = detector(image)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    assert_same(detector(tensor), expected)
    assert_same(detector(tensor.flip(0), channel_order="BGR"), expected)
    for found in detector.predict(torch.stack([tensor, tensor]), batch_size=2):
        assert_close(found, expected)
    (found,) = detector.predict(tensor)
    assert_same(found, expected)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda x: x.permute(1, 2, 0), ValueError, r"\(120, 200, 3\).*permute\(2, 0, 1\)"),
        (lambda x: x[None], ValueError, "Pass a batch to predict"),
        (lambda x: x[0], ValueError, r"\(120, 200\)"),
        (lambda x: x / 255, TypeError, r"float32.*\(image \* 255\)"),
        (lambda x: x.int(), TypeError, "int32"),
    ],
)
def test_wrong_tensors(detector, image, make, error, message):
    with pytest.raises(error, match=message):
        detector(make(torch.from_numpy(image).permute(2, 0, 1)))


def test_representation(detector):
    assert repr(detector) == "Detector(TOOD on cpu, 5 classes, channel_order='RGB')"


# ---- Options and views --------------------------------------------------------------------------


def rows(found):
    """(class, score, box) of each detection, in a fixed order."""
    table = np.column_stack([found.class_id, found.confidence, found.xyxy])
    return table[np.lexsort(table.T[::-1])]


def test_the_model_s_own_values_change_nothing(real_detector, images):
    """Another way through the code: the candidates, and NMS in NumPy."""
    model = real_detector.model
    expected = real_detector(images[0], score_threshold=0.2)
    assert len(expected) > 20
    for options in (
        {"nms_threshold": model.test_nms_thresh},
        {"max_detections": model.max_detections_per_image},
        {"classes": real_detector.class_names},
    ):
        found = real_detector(images[0], score_threshold=0.2, **options)
        np.testing.assert_allclose(rows(found), rows(expected), atol=1e-5)


def test_options_of_nms(detector, image):
    options = {"score_threshold": 0.1, "max_detections": 1000}
    plain = detector(image, **options)
    agnostic = detector(image, nms="class-agnostic", **options)
    strict = detector(image, nms_threshold=0.1, **options)
    loose = detector(image, nms_threshold=0.95, **options)
    assert 0 < len(agnostic) < len(plain) and 0 < len(strict) < len(plain) < len(loose)
    one = plain.class_names[-1]
    only = detector(image, classes=[one], **options)
    assert set(only.class_names) == {one}
    assert len(only) >= plain.class_names.count(one)


def test_an_image_of_four_has_the_detections_of_all_four(real_detector):
    generator = np.random.default_rng(1)
    tiles = generator.integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    large = np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:])])
    options = {"slice_size": 64, "slice_overlap": 0, "whole_image": False}
    expected = []
    for tile, (y, x) in zip(tiles, [(0, 0), (0, 64), (64, 0), (64, 64)], strict=True):
        expected.append(rows(real_detector(tile)) + np.array([0, 0, x, y, x, y]))
    expected = np.concatenate(expected)
    expected = expected[np.lexsort(expected.T[::-1])]
    assert len(expected) > 20
    single = real_detector(large, **options)
    assert single.image_size == (128, 128)
    (batched,) = real_detector.predict(large, batch_size=3, **options)
    for found in (single, batched):
        assert len(found) == len(expected)
        distances = np.abs(rows(found)[:, None] - expected[None]).max(axis=2)
        assert distances.min(axis=1).max() < 1e-2 and distances.min(axis=0).max() < 1e-2
        assert (np.diff(found.confidence) <= 0).all()


def test_sliced_and_other_images_in_one_stream(detector, images):
    """Each image gets its own views back, whatever the batches."""
    options = {"slice_size": 64, "flip": True, "score_threshold": 0.2}
    results = detector.predict(images[:4], batch_size=4, **options)
    for found, pixels in zip(results, images[:4], strict=True):
        expected = detector(pixels, **options)
        assert found.image_size == pixels.shape[:2]
        np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-5)


def test_a_mirror_image_has_the_same_detections_with_flip(detector, image):
    found, mirrored = (detector(x, flip=True) for x in (image, image[:, ::-1].copy()))
    assert len(found) == len(mirrored) > 0
    np.testing.assert_allclose(np.sort(found.confidence), np.sort(mirrored.confidence), atol=1e-5)
