"""Datasets for the tests of checks, written down by hand."""

from pathlib import Path

import numpy as np
from PIL import Image

from tood.data.dataset import DetectionDataset
from tood.data.normalize import build_dataset


def make_dataset(
    boxes: list[tuple], size: tuple[int, int] = (640, 480), num_images: int = 1, **changes
) -> DetectionDataset:
    """Boxes are (image, class, x, y, width, height); classes a, b and c."""
    array = np.array([box[2:] for box in boxes], float).reshape(-1, 4)
    fields = {
        "source": "set.json",
        "class_names": ["a", "b", "c"],
        "category_ids": [1, 2, 3],
        "file_names": [f"{index}.jpg" for index in range(num_images)],
        "image_ids": range(num_images),
        "widths": [size[0]] * num_images,
        "heights": [size[1]] * num_images,
        "image_index": [box[0] for box in boxes],
        "class_ids": [box[1] for box in boxes],
        "boxes": array,
    }
    return build_dataset(**{**fields, **changes})


def photo(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A smooth random image, as different from those of other seeds as two photographs."""
    values = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(values).resize(size, Image.Resampling.BICUBIC)


def save_photos(folder: Path, seeds: list[int], **options) -> list[str]:
    paths = [str(folder / f"{seed}.jpg") for seed in seeds]
    for seed, path in zip(seeds, paths, strict=True):
        photo(seed).save(path, quality=90, **options)
    return paths


def ruin(dataset: DetectionDataset, *indices: int) -> list[str]:
    """Cut image files, and return their names."""
    for index in indices:
        with open(dataset.file_names[index], "r+b") as file:
            file.truncate(100)
    return [dataset.file_names[index] for index in indices]
