"""Ground truth and detections for the tests of the report."""

import json
from pathlib import Path

import numpy as np

from tests.data.builders import make_dataset
from tood.data.dataset import DetectionDataset
from tood.report.detections import DetectionRows, make_rows


def detect(*found: tuple) -> DetectionRows:
    """Detections (image, class, score, x, y, width, height)."""
    array = np.array(found, float).reshape(-1, 7)
    return make_rows(array[:, 0], array[:, 1], array[:, 2], array[:, 3:])


def random_scene(
    seed: int, num_images: int = 12, num_classes: int = 5, crowds: float = 0.0, ties: bool = False
) -> tuple[DetectionDataset, DetectionRows]:
    """Images with a few objects, and detections that are wrong in every way."""
    random = np.random.default_rng(seed)
    boxes, found = [], []
    for image in range(num_images):
        for _ in range(random.integers(0, 9)):
            corner, size = random.uniform(0, 300, 2), np.exp(random.uniform(2.0, 5.0, 2))
            label = int(random.integers(num_classes))
            boxes.append((image, label, *corner, *size))
            for _ in range(random.integers(0, 4)):
                spread = random.choice([0.05, 0.25, 0.5])
                moved = np.concatenate([corner, size]) + spread * np.tile(size, 2) * (
                    random.standard_normal(4) * [0.5, 0.5, 0.3, 0.3]
                )
                moved[2:] = np.maximum(moved[2:], 2)
                other = int(random.integers(num_classes)) if random.random() < 0.3 else label
                found.append((image, other, random.random(), *moved))
        for _ in range(random.integers(0, 5)):
            box = (*random.uniform(0, 400, 2), *random.uniform(5, 100, 2))
            found.append((image, int(random.integers(num_classes)), random.random(), *box))
    if ties:
        found = [(*row[:2], round(row[2], 1), *row[3:]) for row in found]
    is_crowd = random.random(len(boxes)) < crowds
    names = [f"class {index}" for index in range(num_classes)]
    dataset = make_dataset(
        boxes,
        num_images=num_images,
        class_names=names,
        category_ids=[10 * index + 7 for index in range(num_classes)],
        is_crowd=is_crowd,
    )
    return dataset, detect(*found)


def write_results(path: Path, dataset: DetectionDataset, rows: DetectionRows) -> Path:
    """Detections as ``coco_instances_results.json``."""
    entries = [
        {
            "image_id": dataset.image_ids[image],
            "category_id": dataset.category_ids[label],
            "bbox": box,
            "score": score,
        }
        for image, label, score, box in zip(
            rows.image_index, rows.class_ids, rows.scores.tolist(), rows.boxes.tolist(), strict=True
        )
    ]
    path.write_text(json.dumps(entries, default=int))
    return path
