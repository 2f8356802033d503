"""Draws a small synthetic dataset in COCO format: shapes on textured backgrounds.

``python -m tood.data.synthetic --output DIR`` writes ``DIR/train.json``, ``DIR/val.json`` and
``DIR/images/``. An image depends only on the seed, its index and its size.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .shape_polygons import mask_to_polygons

CLASSES = ("circle", "square", "triangle", "star", "cross")

# Minimum visible fraction of a shape. Shapes that are covered further are not annotated.
MIN_VISIBLE = 0.4


def _outline(kind: str) -> np.ndarray:
    """Return the corners (P, 2) of a shape with radius 1 around the origin."""
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
    """Return zero-mean noise (size, size, 3) float32 at several scales."""
    total = np.zeros((size, size, 3), np.float32)
    for cells in (4, 12, 40):
        grid = rng.normal(size=(cells, cells, 3)).astype(np.float32)
        # Mostly gray, so that the background's color reveals little.
        grid = 0.4 * grid + 0.6 * grid.mean(axis=2, keepdims=True)
        total += cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC) * contrast / 2
    return total


def _class_color(rng: np.random.Generator, category: int) -> np.ndarray:
    """Return a BGR color (3,) float32 near the hue of the class.

    Color helps to tell the classes apart, so a few minutes of training are enough.
    """
    hue = (category * 180 / len(CLASSES) + rng.normal(0, 6)) % 180
    hsv = np.array([[[hue, rng.uniform(140, 240), rng.uniform(110, 250)]]]).astype(np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0].astype(np.float32)


def _box(mask: np.ndarray) -> list[int]:
    """Return [x, y, width, height] around the pixels of a mask (H, W)."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [int(xs[0]), int(ys[0]), int(xs[-1] - xs[0] + 1), int(ys[-1] - ys[0] + 1)]


def draw_image(seed: int, index: int, size: int = 160) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Draw one image.

    Args:
        seed: of the dataset.
        index: of the image in the dataset.
        size: side of the square image, in pixels.

    Returns:
        The image (size, size, 3) uint8 BGR, and its annotations in COCO format, without ids. Boxes,
        areas and masks are those of the visible pixels.
    """
    rng = np.random.default_rng((seed, index))
    image = rng.uniform(60, 190, 3).astype(np.float32) + _texture(rng, size, 30)
    owner = np.zeros((size, size), np.int32)  # number of the topmost shape, from 1; 0 for none
    shapes = []
    for shape in range(1, int(rng.integers(1, 8)) + 1):
        category = int(rng.integers(len(CLASSES)))
        # Log-uniform from a few pixels to most of the image: small shapes are as frequent as large.
        radius = float(np.exp(rng.uniform(np.log(7), np.log(0.36 * size))))
        center = rng.uniform(0.5 * radius, size - 0.5 * radius, 2)
        angle = rng.uniform(0, 2 * math.pi)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        corners = _outline(CLASSES[category]) @ turn.T * radius + center
        mask = np.zeros((size, size), np.uint8)
        cv2.fillPoly(mask, [np.round(corners * 16).astype(np.int32)], 1, shift=4)
        color = _class_color(rng, category)
        inside = mask.astype(bool)
        image[inside] = (color + _texture(rng, size, 15))[inside]
        owner[inside] = shape
        shapes.append((shape, category, int(inside.sum())))
    annotations = []
    for shape, category, area in shapes:
        visible = owner == shape
        count = int(visible.sum())
        if count and count >= MIN_VISIBLE * area:
            annotations.append(
                {
                    "category_id": category + 1,
                    "bbox": _box(visible),
                    "area": count,
                    "iscrowd": 0,
                    "segmentation": mask_to_polygons(visible),
                }
            )
    image = cv2.GaussianBlur(image, (3, 3), 0.6) + rng.normal(0, 4, image.shape)
    return image.clip(0, 255).astype(np.uint8), annotations


def write_dataset(
    output_dir: str | Path,
    num_train: int = 600,
    num_val: int = 120,
    size: int = 160,
    seed: int = 0,
) -> Path:
    """Write a dataset with a training and a validation split.

    Args:
        output_dir: folder for ``train.json``, ``val.json`` and ``images/``; created if missing.
        num_train: number of training images.
        num_val: number of validation images; none of them is a training image.
        size: side of the square images, in pixels.
        seed: the same seed gives the same dataset.

    Returns:
        The folder.

    Raises:
        OSError: an image cannot be written.
    """
    output_dir = Path(output_dir)
    (output_dir / "images").mkdir(parents=True, exist_ok=True)
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, start=1)]
    for split, first, count in (("train", 0, num_train), ("val", num_train, num_val)):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(first, first + count):
            image, objects = draw_image(seed, index, size)
            name = f"{index:06d}.png"
            if not cv2.imwrite(str(output_dir / "images" / name), image):
                raise OSError(f"cannot write {output_dir / 'images' / name}")
            images.append({"id": index, "file_name": name, "height": size, "width": size})
            for annotation in objects:
                annotations.append({"id": len(annotations) + 1, "image_id": index, **annotation})
        content = {"images": images, "annotations": annotations, "categories": categories}
        (output_dir / f"{split}.json").write_text(json.dumps(content), encoding="utf-8")
    return output_dir


def main(argv: list[str] | None = None) -> int:
    """Write a dataset from the command line.

    Args:
        argv: the arguments; None for those of the process.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tood.data.synthetic", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--num-train", type=int, default=600, help="training images (600)")
    parser.add_argument("--num-val", type=int, default=120, help="validation images (120)")
    parser.add_argument("--size", type=int, default=160, help="side of the images in pixels (160)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed draws the same images")
    args = parser.parse_args(argv)
    write_dataset(args.output, args.num_train, args.num_val, args.size, args.seed)
    print(f"{args.num_train} training and {args.num_val} validation images in {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
