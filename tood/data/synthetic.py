"""A small synthetic dataset in COCO format: shapes on textured backgrounds.

``python -m tood.data.shapes --out DIR`` writes ``DIR/train.json``, ``DIR/val.json`` and
``DIR/images/``. Every picture follows from the seed and its number alone.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np

CLASSES = ("circle", "square", "triangle", "star", "cross")

# Least visible share of a shape; one that is hidden further is not part of the ground truth.
MIN_VISIBLE = 0.4


def _outline(kind: str) -> np.ndarray:
    """(P, 2) corners of a shape with radius 1 around the origin."""
    if kind == "circle":
        angles = np.linspace(0, 2 * math.pi, 48, endpoint=False)
        radii = np.ones_like(angles)
    elif kind == "square":
        angles = np.arange(4) * math.pi / 2 + math.pi / 4
        radii = np.ones_like(angles)
    elif kind == "triangle":
        angles = np.arange(3) * 2 * math.pi / 3 - math.pi / 2
        radii = np.ones_like(angles)
    elif kind == "star":
        angles = np.arange(10) * math.pi / 5 - math.pi / 2
        radii = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)
    else:  # a cross of two bars
        arm = 0.3
        half = [(arm, 1), (arm, arm), (1, arm), (1, -arm), (arm, -arm), (arm, -1)]
        return np.array(half + [(-x, -y) for x, y in half])
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _texture(rng: np.random.Generator, size: int, contrast: float) -> np.ndarray:
    """(size, size, 3) float32 noise of several scales around 0."""
    total = np.zeros((size, size, 3), np.float32)
    for cells in (4, 12, 40):
        grid = rng.normal(size=(cells, cells, 3)).astype(np.float32)
        # Mostly gray, so that color says little.
        grid = 0.4 * grid + 0.6 * grid.mean(axis=2, keepdims=True)
        total += cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC) * contrast / 2
    return total


def _class_color(rng: np.random.Generator, category: int) -> np.ndarray:
    """(3,) float32 BGR, of a hue near that of the class, so that minutes are enough to learn."""
    hue = (category * 180 / len(CLASSES) + rng.normal(0, 6)) % 180
    hsv = np.uint8([[[hue, rng.uniform(140, 240), rng.uniform(110, 250)]]])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0].astype(np.float32)


def _box(mask: np.ndarray) -> list[int]:
    """[x, y, width, height] around the pixels of a mask."""
    ys, xs = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
    return [int(xs[0]), int(ys[0]), int(xs[-1] - xs[0] + 1), int(ys[-1] - ys[0] + 1)]


def draw_image(seed: int, number: int, size: int = 160) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Draw one picture.

    Args:
        seed: of the dataset.
        number: of the picture in it.
        size: side of the square picture, in pixels.

    Returns:
        The picture (size, size, 3) uint8 BGR, and its annotations in COCO's format, without ids.
    """
    rng = np.random.default_rng((seed, number))
    picture = rng.uniform(60, 190, 3).astype(np.float32) + _texture(rng, size, 30)
    owner = np.zeros((size, size), np.int32)  # which shape is on top, from 1 on
    shapes = []
    for index in range(1, int(rng.integers(1, 8)) + 1):
        category = int(rng.integers(len(CLASSES)))
        # From a few pixels to most of the picture, small ones as often as large ones.
        radius = float(np.exp(rng.uniform(np.log(7), np.log(0.36 * size))))
        center = rng.uniform(0.5 * radius, size - 0.5 * radius, 2)
        angle = rng.uniform(0, 2 * math.pi)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        corners = _outline(CLASSES[category]) @ turn.T * radius + center
        mask = np.zeros((size, size), np.uint8)
        cv2.fillPoly(mask, [np.round(corners * 16).astype(np.int32)], 1, shift=4)
        color = _class_color(rng, category)
        inside = mask.astype(bool)
        picture[inside] = (color + _texture(rng, size, 15))[inside]
        owner[inside] = index
        shapes.append((index, category, int(inside.sum())))
    annotations = []
    for index, category, area in shapes:
        visible = owner == index
        count = int(visible.sum())
        if count and count >= MIN_VISIBLE * area:
            annotations.append(
                {"category_id": category + 1, "bbox": _box(visible), "area": count, "iscrowd": 0}
            )
    picture = cv2.GaussianBlur(picture, (3, 3), 0.6) + rng.normal(0, 4, picture.shape)
    return picture.clip(0, 255).astype(np.uint8), annotations


def write_dataset(
    out: str | Path, num_train: int = 600, num_val: int = 120, size: int = 160, seed: int = 0
) -> Path:
    """Write a dataset.

    Args:
        out: folder for ``train.json``, ``val.json`` and ``images/``; made if missing.
        num_train: pictures to train on.
        num_val: pictures to evaluate on, others than those.
        size: side of the square pictures, in pixels.
        seed: the same seed gives the same dataset.

    Returns:
        The folder.
    """
    out = Path(out)
    (out / "images").mkdir(parents=True, exist_ok=True)
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, start=1)]
    for split, first, count in (("train", 0, num_train), ("val", num_train, num_val)):
        images, annotations = [], []
        for number in range(first, first + count):
            picture, found = draw_image(seed, number, size)
            name = f"{number:06d}.png"
            if not cv2.imwrite(str(out / "images" / name), picture):
                raise OSError(f"cannot write {out / 'images' / name}")
            images.append({"id": number, "file_name": name, "height": size, "width": size})
            for annotation in found:
                annotations.append({"id": len(annotations) + 1, "image_id": number, **annotation})
        content = {"images": images, "annotations": annotations, "categories": categories}
        (out / f"{split}.json").write_text(json.dumps(content), encoding="utf-8")
    return out


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", required=True, help="folder to write to")
    parser.add_argument("--num-train", type=int, default=600, help="pictures to train on")
    parser.add_argument("--num-val", type=int, default=120, help="pictures to evaluate on")
    parser.add_argument("--size", type=int, default=160, help="side of the pictures, in pixels")
    parser.add_argument("--seed", type=int, default=0, help="the same seed, the same pictures")
    args = parser.parse_args()
    out = write_dataset(args.out, args.num_train, args.num_val, args.size, args.seed)
    print(f"{args.num_train} + {args.num_val} pictures in {out}")


if __name__ == "__main__":
    main()
