"""A detector without a network, and a program that runs it in a process of its own.

python -m tests.runtime.dataset.fake FOLDER FORMAT SOURCE...
"""

import logging
import os
import sys
import time
from pathlib import Path

import numpy as np

from tood_runtime.dataset.batch_detector import BatchDetector
from tood_runtime.dataset.listing import list_images
from tood_runtime.dataset.manifest import RunSettings
from tood_runtime.dataset.run import DatasetRun
from tood_runtime.image_detector import ImageDetector
from tood_runtime.nms import Candidates


class FakeDetector(ImageDetector):
    """Finds 0 to 3 objects, whose numbers follow from the pixels of the image.

    Args:
        delay: seconds that a batch takes.
    """

    def __init__(self, delay: float = 0.0) -> None:
        super().__init__(["ant", "bee", "cat"], [1, 2, 30])
        self.delay = delay
        self.batch_sizes: list[int] = []

    nms_threshold = 0.6

    def require_settings(self, settings):
        pass

    def _describe_model(self):
        return "fake"

    def _resize(self, pixels):
        return pixels

    def _padded_size(self, height, width):
        return -(-height // 32) * 32, -(-width // 32) * 32

    def _run(self, batch, settings):
        time.sleep(self.delay)
        self.batch_sizes.append(len(batch))
        return [self._find(prepared.pixels) for prepared in batch]

    def _find(self, pixels):
        total = int(pixels.sum())
        count = total % 4
        boxes = np.array([[i, 1.5, 8 + total % 7, 9.25 + i] for i in range(count)], np.float32)
        scores = 0.9 - np.arange(count, dtype=np.float32) / 7
        classes = (np.arange(count) + total) % 3
        return Candidates(boxes.reshape(-1, 4), scores, classes)


def settings(sources, *, format="parquet", shard_size=8, **changes) -> RunSettings:
    values = {
        "sources": [os.path.abspath(source) for source in sources],
        "image_folder": None,
        "format": format,
        "shard_size": shard_size,
        "model": {"weights": "0" * 64, "config": "1" * 64},
        "options": {"score_threshold": 0.3, "classes": None},
        "class_names": ["ant", "bee", "cat"],
        "category_ids": [1, 2, 30],
        "batch_size": 4,
        "software": {"tood": "1"},
        "working_directory": os.getcwd(),
    }
    return RunSettings(**{**values, **changes})


def detect_all(folder, sources, detector=None, *, prepare=None, **changes):
    """Run detection in this process, as the command does; returns the summary."""
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    images = changes.get("image_folder")
    run = DatasetRun(folder)
    try:
        run.prepare(
            settings(sources, **changes),
            lambda: list_images([str(source) for source in sources], images),
            **(prepare or {}),
        )
        return run.work(BatchDetector(detector or FakeDetector(), batch_size=4))
    finally:
        run.close()


def main() -> None:
    folder, file_format, *sources = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, stream=sys.stdout)
    summary = detect_all(folder, sources, FakeDetector(delay=0.01), format=file_format)
    print(summary)


if __name__ == "__main__":
    main()
