"""Videos for tests."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tood_runtime.outputs.video_file import VideoWriter

RATE = Fraction(30000, 1001)


def scene(index: int, size=(64, 48)) -> Image.Image:
    """A gray image that gets brighter, with a white square in the upper left quarter."""
    pixels = np.full((size[1], size[0], 3), 10 * (index % 25), np.uint8)
    pixels[4:14, 4:24] = (250, 40, 40)
    return Image.fromarray(pixels)


def write_video(path: Path, count=12, size=(64, 48), rate=RATE, times=None) -> Path:
    """A video of scenes; the test is skipped without the package that writes them."""
    pytest.importorskip("av")
    writer = VideoWriter(path, size, rate)
    for i in range(count):
        writer.write(scene(i, size), i / rate if times is None else times[i])
    writer.close()
    return path
