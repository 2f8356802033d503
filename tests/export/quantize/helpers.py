"""What the tests of quantization share."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from tood_runtime.model_info import ModelInfo

INFO = ModelInfo(
    model="tiny", output="detections", precision="float32", class_names=["a"], category_ids=[1],
    channel_order="RGB", apply_exif_orientation=True, min_size=64, max_size=96, size_divisor=32,
    level_strides=[8, 16, 32, 64, 128], batch=None, height=None, width=None, score_threshold=0.05,
    nms_threshold=0.6, topk_candidates=1000, max_detections=100, config="", weights_sha256="",
)  # fmt: skip


def draw_images(folder: Path, count: int) -> list[Path]:
    """Images of 96x64 pixels with a rectangle and noise, each another one."""
    generator = np.random.default_rng(0)
    paths = []
    for i in range(count):
        image = Image.fromarray(generator.integers(0, 256, (64, 96, 3), np.uint8))
        x, y = generator.integers(0, 30, 2)
        color = tuple(int(value) for value in generator.integers(0, 256, 3))
        ImageDraw.Draw(image).rectangle((x, y, x + 40, y + 25), fill=color)
        paths.append(folder / f"{i:02d}.png")
        image.save(paths[-1])
    return paths
