"""What all detectors share, with a network that only remembers what it was given."""

import numpy as np
import pytest
from PIL import Image

from tood_runtime.image_detector import ImageDetector
from tood_runtime.image_io import ImageReadError
from tood_runtime.nms import Candidates
from tood_runtime.prediction import OptionError
from tood_runtime.sources import SourceError


class FakeDetector(ImageDetector):
    """Finds one object of each class in every image, scored 0.9, 0.8, ... in their order."""

    def __init__(self, class_names=("car", "person", "traffic light", "car"), **options):
        super().__init__(class_names, list(range(1, len(class_names) + 1)), **options)
        self.batches = []

    def require_threshold(self, score_threshold):
        if score_threshold < 0.1:
            raise OptionError("too low for the model")

    def _describe_model(self):
        return "fake"

    def _resize(self, pixels):
        return pixels

    def _padded_size(self, height, width):
        return height, width

    def _run(self, batch, settings):
        self.batches.append(batch)
        count = len(self.class_names)
        boxes = np.tile(np.array([0, 0, 5, 5], np.float32), (count, 1))
        scores = 0.9 - 0.1 * np.arange(count, dtype=np.float32)
        return [Candidates(boxes, scores, np.arange(count))] * len(batch)


def image(height=8, width=8, value=0):
    return np.full((height, width, 3), value, np.uint8)


def test_representation_shows_the_channel_order():
    assert repr(FakeDetector()) == "FakeDetector(fake, 4 classes, channel_order='RGB')"
    assert "channel_order='BGR'" in repr(FakeDetector(channel_order="BGR"))
    with pytest.raises(ValueError, match="channel_order 'GRB'.*BGR, RGB"):
        FakeDetector(channel_order="GRB")


def test_the_channel_order_of_arrays():
    pixels = image()
    pixels[:] = (10, 20, 30)
    for detector, option, expected in (
        (FakeDetector(), None, (10, 20, 30)),
        (FakeDetector(channel_order="BGR"), None, (30, 20, 10)),
        (FakeDetector(channel_order="BGR"), "RGB", (10, 20, 30)),
        (FakeDetector(), "BGR", (30, 20, 10)),
    ):
        detector(pixels, channel_order=option)
        list(detector.predict([pixels], channel_order=option))
        for batch in detector.batches:
            assert tuple(batch[0].pixels[0, 0]) == expected
        detector(Image.fromarray(pixels), channel_order=option)  # which knows its order
        assert tuple(detector.batches[-1][0].pixels[0, 0]) == (10, 20, 30)


def test_classes_and_maximum():
    detector = FakeDetector()
    assert detector(image()).class_names == ["car", "person", "traffic light", "car"]
    assert list(detector(image(), classes=["car"]).class_id) == [0, 3]
    assert list(detector(image(), classes="person").class_id) == [1]
    assert list(detector(image(), classes=("traffic light", "car")).class_id) == [0, 2, 3]
    assert list(detector(image(), max_detections=2).class_id) == [0, 1]
    assert list(detector(image(), classes=["car"], max_detections=1).class_id) == [0]
    assert list(detector(image(), score_threshold=0.75).class_id) == [0, 1]
    (found,) = detector.predict(image(), classes=["car"], max_detections=1, score_threshold=0.5)
    assert list(found.class_id) == [0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["cat", "car"]}, "Unknown classes 'cat'. The model has: car, person, traffic"),
        ({"classes": []}, "classes is empty"),
        ({"max_detections": 0}, "max_detections must be at least 1, got 0"),
        ({"score_threshold": 1.1}, "between 0 and 1, got 1.1"),
        ({"score_threshold": float("nan")}, "between 0 and 1, got nan"),
        ({"score_threshold": 0.05}, "too low for the model"),
        ({"channel_order": "bgr"}, "Unknown channel_order 'bgr'"),
    ],
)
def test_wrong_options(options, message):
    detector = FakeDetector()
    with pytest.raises(ValueError, match=message):
        detector(image(), **options)
    with pytest.raises(ValueError, match=message):
        detector.predict([image()], **options)  # at the call, before the first result
    assert not detector.batches


def test_batch_size():
    detector = FakeDetector()
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        detector.predict([image()], batch_size=0)
    detector.max_batch_size = 4
    with pytest.raises(OptionError, match="takes batches of 4, got the batch size 5"):
        detector.predict([image()], batch_size=5)


def test_images_of_one_size_share_a_batch():
    detector = FakeDetector()
    images = [image(8 + 4 * (i % 2), 8, i) for i in range(10)]
    results = list(detector.predict(images, batch_size=3))
    assert [found.image_size for found in results] == [x.shape[:2] for x in images]
    assert sorted(len(batch) for batch in detector.batches) == [2, 2, 3, 3]
    for batch in detector.batches:
        assert len({prepared.padded_size for prepared in batch}) == 1


def test_sources(tmp_path):
    for name in ("a.png", "b.png"):
        Image.fromarray(image()).save(tmp_path / name)
    detector = FakeDetector()

    def paths(source):
        return [found.path and found.path[-5:] for found in detector.predict(source)]

    names = [str(tmp_path / "b.png"), tmp_path / "a.png", str(tmp_path / "b.png")]
    assert paths(names) == ["b.png", "a.png", "b.png"]
    assert paths(iter(names)) == ["b.png", "a.png", "b.png"]
    assert paths(tmp_path) == paths(str(tmp_path / "*.png")) == ["a.png", "b.png"]
    assert paths(tmp_path / "a.png") == ["a.png"]
    assert paths(Image.open(tmp_path / "a.png")) == paths(image()) == [None]
    assert paths(np.zeros((3, 8, 8, 3), np.uint8)) == [None] * 3
    assert paths([]) == []
    with pytest.raises(SourceError, match="no images"):
        detector.predict(tmp_path / "missing")
    with pytest.raises(TypeError, match="iterable of images, got int"):
        detector.predict(7)


def test_unreadable_images(tmp_path, caplog):
    Image.fromarray(image()).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    Image.fromarray(image()).save(tmp_path / "c.png")
    detector = FakeDetector()
    results = detector.predict(tmp_path, batch_size=1)
    assert next(results).path.endswith("a.png")
    with pytest.raises(ImageReadError, match=r"b\.png"):
        next(results)
    results = list(detector.predict(tmp_path, batch_size=2, skip_unreadable=True))
    assert [found.path[-5:] for found in results] == ["a.png", "c.png"]
    assert len(caplog.messages) == 1 and "b.png" in caplog.messages[0]


def test_images_are_taken_when_they_are_due():
    taken = []

    def images():
        for i in range(20):
            taken.append(i)
            yield image(8, 8 + i)

    results = FakeDetector().predict(images(), batch_size=2)
    assert not taken
    for due, _ in enumerate(results):
        assert len(taken) - due <= 8 + 3  # four batches, and a batch and one that are read ahead
