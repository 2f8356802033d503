"""The images of a verification, and the batches that model and file both get.

Sizes are (height, width) in pixels.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from PIL import Image
from torch import Tensor

from tood_runtime.backends.base import FloatArray, IntArray
from tood_runtime.image_io import RGBImage, read_image, reading_image
from tood_runtime.model_info import ModelInfo
from tood_runtime.preprocessing import round_up
from tood_runtime.sources import collect_images

from ...data.synthetic import draw_image
from ...data.transforms import ResizeShortestEdge, convert_format

Size = tuple[int, int]

MIN_IMAGES, MAX_IMAGES = 9, 12
# Sizes are read from the headers of at most this many files, to choose different ones.
_MAX_HEADERS = 200

# Drawn images have these sides, relative to INPUT.MIN_SIZE_TEST or to this many pixels, whichever
# is smaller: a size of the model's own would take minutes with large models.
_MAX_DRAWN_SIDE = 320
_DRAWN_SHAPES = (
    (1.0, 1.0), (1.0, 1.5), (1.41, 0.9), (0.61, 1.27), (0.9, 0.55), (0.33, 1.1), (1.1, 0.31),
    (0.77, 0.74),
)  # fmt: skip
# Of smaller images most maps have one cell, where group normalization of few channels divides by
# almost nothing: float32 resolves less than the limits there, in any runtime.
_SMALLEST: Size = (64, 64)
# Height and width that detections refer to, relative to the image: all different from 1, and from
# each other, so that a wrong scale cannot go unseen.
_SCALES = ((1.5, 1.25), (0.75, 0.6), (1.2, 2.0))
# Padding has no effect, so it is filled with what would have the largest.
_PADDING = 255.0


@dataclass(frozen=True)
class VerificationImage:
    """An image as the network gets it.

    Attributes:
        name: of the file, or "drawn N".
        pixels: (C, H, W) float32, 0 to 255, resized and in ``INPUT.FORMAT``.
        original_size: that detections refer to; another than that of ``pixels``.
    """

    name: str
    pixels: Tensor
    original_size: Size

    @property
    def size(self) -> Size:
        """Of the pixels."""
        return self.pixels.shape[1], self.pixels.shape[2]


@dataclass(frozen=True)
class VerificationBatch:
    """Images that are run together.

    Attributes:
        images: of any sizes.
        padded_size: that all of them are padded to.
    """

    images: list[VerificationImage]
    padded_size: Size

    def arrays(self) -> tuple[FloatArray, IntArray, IntArray]:
        """The inputs of a file: ``images``, ``image_sizes`` and ``original_sizes``."""
        channels = self.images[0].pixels.shape[0]
        pixels = np.full((len(self.images), channels, *self.padded_size), _PADDING, np.float32)
        for row, image in zip(pixels, self.images, strict=True):
            height, width = image.size
            row[:, :height, :width] = image.pixels.numpy()
        sizes = np.array([image.size for image in self.images], np.int64)
        return pixels, sizes, np.array([image.original_size for image in self.images], np.int64)

    def model_inputs(self) -> list[dict]:
        """The inputs of detectron2's models."""
        return [
            {"image": image.pixels, "height": image.original_size[0],
             "width": image.original_size[1]}
            for image in self.images
        ]  # fmt: skip


def prepare_images(
    cfg: CfgNode,
    info: ModelInfo,
    images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None,
) -> list[VerificationImage]:
    """Load images that the user names, and draw others where those are too few.

    Args:
        cfg: of the model.
        info: of the file, whose fixed size the images have to fit in.
        images: files, folders or glob patterns. Of many images, some of different sizes are taken.

    Returns:
        At least ``MIN_IMAGES`` of different sizes.

    Raises:
        SourceError: ``images`` names no image.
        ImageReadError: an image cannot be read.
    """
    if isinstance(images, (str, os.PathLike)):
        images = [images]
    loaded: list[VerificationImage] = []
    for path in _choose(collect_images(images)) if images is not None else []:
        pixels = read_image(path, cfg.INPUT.APPLY_EXIF_ORIENTATION)
        resize = ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)
        network_pixels = convert_format(pixels, cfg.INPUT.FORMAT)
        network_pixels = resize.get_transform(network_pixels).apply_image(network_pixels)
        loaded.append(_prepare(path.name, network_pixels, info, pixels.shape[:2], len(loaded)))
    # Equal sizes would leave padding within a batch unseen.
    sizes = len({image.size for image in loaded})
    return loaded + _draw(max(MIN_IMAGES - sizes, 0), cfg, info)


def _choose(paths: Sequence[Path]) -> list[Path]:
    """At most ``MAX_IMAGES`` paths, of as many sizes as possible."""
    if len(paths) <= MAX_IMAGES:
        return list(paths)
    paths = paths[:: -(-len(paths) // _MAX_HEADERS)]
    occurrences: dict[Size, int] = {}
    ranks = []
    for path in paths:
        with reading_image(path), Image.open(path) as image:
            size = image.size
        ranks.append(occurrences.get(size, 0))
        occurrences[size] = ranks[-1] + 1
    # The first image of each size, then the second of each.
    order = sorted(range(len(paths)), key=ranks.__getitem__)
    return [paths[i] for i in sorted(order[:MAX_IMAGES])]


def _draw(count: int, cfg: CfgNode, info: ModelInfo) -> list[VerificationImage]:
    base = min(cfg.INPUT.MIN_SIZE_TEST or _MAX_DRAWN_SIDE, _MAX_DRAWN_SIDE)
    sizes = [(round(base * height), round(base * width)) for height, width in _DRAWN_SHAPES]
    sizes.insert(3, _SMALLEST)
    drawn = []
    for index, (height, width) in enumerate(sizes[:count]):
        pixels, _ = draw_image(0, index, max(height, width, *_SMALLEST))
        rgb: RGBImage = np.ascontiguousarray(pixels[:height, :width, ::-1])
        network_pixels = convert_format(rgb, cfg.INPUT.FORMAT)
        drawn.append(_prepare(f"drawn {index + 1}", network_pixels, info, None, index))
    return drawn


def _prepare(
    name: str, pixels: np.ndarray, info: ModelInfo, original_size: Size | None, index: int
) -> VerificationImage:
    """Shrink an image (H, W, C) to the fixed size of a file, and choose its original size."""
    height, width = pixels.shape[:2]
    shrink = min(1.0, (info.height or height) / height, (info.width or width) / width)
    if shrink < 1:
        height, width = max(1, int(height * shrink)), max(1, int(width * shrink))
        rows = np.linspace(0, pixels.shape[0] - 1, height).astype(int)
        columns = np.linspace(0, pixels.shape[1] - 1, width).astype(int)
        pixels = pixels[rows[:, None], columns]
    if original_size is None or height == original_size[0] or width == original_size[1]:
        vertical, horizontal = _SCALES[index % len(_SCALES)]
        original_size = max(1, round(height * vertical)), max(1, round(width * horizontal))
    if pixels.shape[2] == 1:  # gray images fit any number of channels
        pixels = np.repeat(pixels, info.channels, axis=2)
    array = np.array(pixels.transpose(2, 0, 1), dtype=np.float32, order="C")
    return VerificationImage(name, torch.from_numpy(array), original_size)


def make_batches(
    images: Sequence[VerificationImage], batch_size: int, info: ModelInfo
) -> list[VerificationBatch]:
    """Group images into batches of mixed sizes; the last one is filled up with the first images.

    Args:
        images: at least one.
        batch_size: number of images of each batch.
        info: of the file. Batches have its fixed size; else every other one is padded to the
            stride, and the others as little as possible.
    """
    count = -(-len(images) // batch_size)
    by_area = sorted(images, key=lambda image: image.size[0] * image.size[1])
    filled = [by_area[i % len(by_area)] for i in range(count * batch_size)]
    batches = []
    for index in range(count):
        group = filled[index::count]
        divisor = info.size_divisor if index % 2 else 1
        height, width = (
            round_up(max(image.size[axis] for image in group), divisor) for axis in (0, 1)
        )
        batches.append(VerificationBatch(group, (info.height or height, info.width or width)))
    return batches
