"""What all detectors share, with a network that only remembers what it was given."""

import io

import numpy as np
import pytest
from PIL import Image, ImageSequence

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

    nms_threshold = 0.6

    def require_settings(self, settings):
        if settings.score_threshold < 0.1:
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
        ({"channel_order": ""}, "Unknown channel_order ''"),
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
    with pytest.raises(TypeError):
        detector.predict([image()], batch_size="4")
    list(detector.predict([image()] * 4))
    detector.fixed_batch_size = 2
    list(detector.predict([image()] * 4))
    assert [len(batch) for batch in detector.batches] == [1, 1, 1, 1, 2, 2]


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
    with pytest.raises(SourceError, match="no images"):
        detector.predict("s3://bucket/a.png")
    (tmp_path / "clip.mp4").write_bytes(b"video")
    with pytest.raises(ImageReadError, match="clip.mp4 is a video.*use predict"):
        detector(tmp_path / "clip.mp4")
    for source, message in (
        (7.5, "iterable of images, got float"),
        ({"a": image()}, "got dict. Pass its values"),
        (b"bytes", "got bytes. Decode them first"),
        (io.BytesIO(b"bytes"), "PIL.Image.open"),
    ):
        with pytest.raises(TypeError, match=message):
            detector.predict(source)
    with pytest.raises(SourceError, match='The source is ""'):
        detector.predict("")


def values(detector):
    """The value of each image that the network saw, in the order of the images."""
    return sorted(int(prepared.pixels.max()) for batch in detector.batches for prepared in batch)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_source_may_reuse_its_buffer(batch_size):
    buffer = image()

    def frames():
        for value in range(10):
            buffer[:] = value
            yield buffer
            buffer[:] = 255  # drawn on after it was taken

    detector = FakeDetector()
    assert len(list(detector.predict(frames(), batch_size=batch_size))) == 10
    assert values(detector) == list(range(10))


@pytest.mark.parametrize("batch_size", [1, 4])
def test_frames_of_a_file(tmp_path, batch_size):
    frames = [Image.fromarray(image(value=20 * i)) for i in range(8)]
    frames[0].save(tmp_path / "x.tif", save_all=True, append_images=frames[1:])
    detector = FakeDetector()
    with Image.open(tmp_path / "x.tif") as file:
        list(detector.predict(ImageSequence.Iterator(file), batch_size=batch_size))
    assert values(detector) == [20 * i for i in range(8)]


def test_one_image_that_is_not_loaded_yet_several_times(tmp_path):
    Image.fromarray(image(500, 700, 7)).save(tmp_path / "x.jpg")
    with Image.open(tmp_path / "x.jpg") as file:
        assert len(list(FakeDetector().predict([file] * 6, batch_size=2))) == 6


@pytest.mark.parametrize("batch_size", [1, 4])
def test_an_error_comes_after_the_images_before_it(tmp_path, batch_size):
    images = [image(8 + 4 * (i % 2), 8) for i in range(7)]
    results = FakeDetector().predict([*images, tmp_path / "no.png"], batch_size=batch_size)
    assert [next(results).image_size for _ in images] == [x.shape[:2] for x in images]
    with pytest.raises(ImageReadError, match=r"no\.png"):
        next(results)


def test_drawings_and_crops_take_the_detector_s_channel_order():
    pixels = image()
    pixels[:] = (250, 0, 0)  # blue for OpenCV
    found = FakeDetector(channel_order="BGR")(pixels)
    assert found.channel_order == found[:1].channel_order == "BGR"
    assert found.crops(pixels)[0].getpixel((2, 2)) == (0, 0, 250)
    assert found.draw(pixels, scale=1).getpixel((7, 7)) == (0, 0, 250)
    (found,) = FakeDetector().predict([pixels], channel_order="BGR")
    assert found.crops(pixels)[0].getpixel((2, 2)) == (0, 0, 250)


def test_unreadable_images(tmp_path, caplog):
    Image.fromarray(image()).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    Image.fromarray(image()).save(tmp_path / "c.png")
    detector = FakeDetector()
    results = detector.predict(tmp_path)
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
