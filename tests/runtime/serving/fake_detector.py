"""A detector without a network, and images for it."""

import io
import threading
import time

import numpy as np
from PIL import Image

from tood_runtime.image_detector import ImageDetector
from tood_runtime.nms import Candidates
from tood_runtime.prediction import OptionError

CLASSES = ["car", "person", "traffic light"]


class FakeDetector(ImageDetector):
    """Finds an object of each class; boxes and scores depend on the image.

    Args:
        seconds: that each batch takes.
    """

    def __init__(self, seconds=0.0, **options):
        super().__init__(CLASSES, [1, 2, 7], **options)
        self.seconds = seconds
        self.batches = []
        self.resized = 0
        self.is_broken = False
        self.started = threading.Event()
        self.may_run = threading.Event()
        self.may_run.set()

    nms_threshold = 0.6

    def require_settings(self, settings):
        if settings.score_threshold < 0.1:
            raise OptionError("score_threshold is below 0.1.")

    def _describe_model(self):
        return "fake"

    def _resize(self, pixels):
        self.resized += 1
        return pixels

    def _padded_size(self, height, width):
        return -(-height // 32) * 32, -(-width // 32) * 32

    def _run(self, batch, settings):
        self.started.set()
        assert len({image.padded_size for image in batch}) == 1
        self.batches.append(([image.pixels for image in batch], settings))
        time.sleep(self.seconds)
        assert self.may_run.wait(30)
        if self.is_broken or any((image.pixels[0, 0] == (6, 6, 6)).all() for image in batch):
            raise RuntimeError("out of memory")
        return [self.find(image.pixels) for image in batch]

    @staticmethod
    def find(pixels):
        """What is in an image, best first: all pixels have an influence on the boxes."""
        height, width = pixels.shape[:2]
        mean = float(pixels.mean()) / 255
        boxes = np.array([[0, 0, width * mean, height * mean]] * 3, np.float32)
        scores = np.array([0.9, 0.6, 0.3], np.float32) - np.float32(0.1 * mean)
        return Candidates(boxes, scores, np.arange(3))


def image(value=100, height=20, width=30):
    return np.full((height, width, 3), value, np.uint8)


def encoded(pixels, image_format="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    drawn = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    drawn.save(buffer, image_format, **options)
    return buffer.getvalue()


def as_json(found) -> list[dict]:
    """What the server must answer for a detector's own result."""
    return [
        {
            "box": [round(value, 3) for value in box],
            "score": round(score, 6),
            "class_id": class_id,
            "class_name": name,
        }
        for box, score, class_id, name in zip(
            found.xyxy.tolist(),
            found.confidence.tolist(),
            found.class_id.tolist(),
            found.class_names,
            strict=True,
        )
    ]
