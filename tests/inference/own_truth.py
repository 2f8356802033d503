"""A dataset whose ground truth are a detector's own detections: random weights get a real AP."""

import json
from pathlib import Path

import numpy as np

from tood.inference import Detector
from tood_runtime.image_writing import save_image


def write_own_truth(folder: Path, detector: Detector, sizes: list[tuple[int, int]]) -> None:
    """Write ``truth.json`` and ``images/``.

    Every second detection of each image is an object. Their boxes are moved by up to a tenth of
    their sides, so that they match at some of COCO's IoUs only, and AP depends on small changes.

    Args:
        folder: an existing one.
        detector: whose classes and detections are used.
        sizes: (height, width) of the images.
    """
    (folder / "images").mkdir()
    generator = np.random.default_rng(0)
    images, annotations = [], []
    for index, (height, width) in enumerate(sizes, start=1):
        pixels = draw_pattern(generator, height, width)
        name = f"{index}.png"
        save_image(pixels, folder / "images" / name)
        images.append({"id": index, "file_name": name, "height": height, "width": width})
        found = detector(pixels, score_threshold=0.1)[::2]
        for (x1, y1, x2, y2), class_id in zip(
            found.xyxy.tolist(), found.class_id.tolist(), strict=True
        ):
            shift = generator.uniform(-0.1, 0.1, 2) * [x2 - x1, y2 - y1]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index,
                    "category_id": detector.category_ids[class_id],
                    "bbox": [x1 + shift[0], y1 + shift[1], x2 - x1, y2 - y1],
                }
            )
    categories = [
        {"id": category_id, "name": name}
        for category_id, name in zip(detector.category_ids, detector.class_names, strict=True)
    ]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "truth.json").write_text(json.dumps(content))


def draw_pattern(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(H, W, 3) RGB: a gradient, two rectangles and noise."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x, 2 * y, (x + y) // 4], axis=2).clip(0, 215)
    for _ in range(2):
        top, left = generator.integers(0, height // 2), generator.integers(0, width // 2)
        pixels[top : top + height // 3, left : left + width // 3] = generator.integers(0, 216, 3)
    return (pixels + generator.integers(0, 40, (height, width, 3))).astype(np.uint8)
