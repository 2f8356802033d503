"""From images to the network's input, as evaluation does it: resize, reorder, pad.

Shapes: **N** images, **C** channels, **H, W** the batch's size with padding.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from .image_io import RGBImage
from .model_info import ModelFileError, ModelInfo

CHANNEL_ORDERS = ("BGR", "RGB", "L")


class ModelInput(NamedTuple):
    """A batch as :meth:`tood_runtime.backends.Backend.run` takes it.

    Attributes:
        images: (N, C, H, W) float32, 0 to 255, 0 outside of the images.
        image_sizes: (N, 2) int64, height and width of each image without padding.
        original_sizes: (N, 2) int64, height and width before resizing.
    """

    images: npt.NDArray[np.float32]
    image_sizes: npt.NDArray[np.int64]
    original_sizes: npt.NDArray[np.int64]


def prepare_batch(images: Sequence[RGBImage], info: ModelInfo) -> ModelInput:
    """Resize images and pad them to one batch, on the right and at the bottom.

    The batch gets the size of its largest image, rounded up to ``info.size_divisor``, or the fixed
    size of the file. A fixed batch size is filled up with copies of the last image.

    Args:
        images: (H, W, 3) uint8 RGB, at least one.
        info: of the model.

    Raises:
        ValueError: there is no image, or there are more than the fixed batch size.
        ModelFileError: the model has an unknown channel order.
    """
    resized = [resize_image(image, info) for image in images]
    return stack_images(resized, [(image.shape[0], image.shape[1]) for image in images], info)


def stack_images(
    images: Sequence[npt.NDArray[np.uint8]],
    original_sizes: Sequence[tuple[int, int]],
    info: ModelInfo,
) -> ModelInput:
    """Pad resized images to one batch; see :func:`prepare_batch`.

    Args:
        images: of :func:`resize_image`, at least one.
        original_sizes: (height, width) of each before that.
        info: of the model.

    Raises:
        ValueError: there is no image, or there are more than the fixed batch size.
    """
    count = len(images)
    if not count or (info.batch is not None and count > info.batch):
        raise ValueError(
            f"A batch needs at least one image and at most {info.batch or 'any number'}, got "
            f"{count}."
        )
    padding = (info.batch or count) - count
    filled = list(images) + [images[-1]] * padding
    originals = list(original_sizes) + [original_sizes[-1]] * padding
    sizes = np.array([image.shape[:2] for image in filled], np.int64)
    largest_height, largest_width = sizes.max(axis=0).tolist()
    height, width = padded_size(largest_height, largest_width, info)
    batch = np.zeros((len(filled), info.channels, height, width), np.float32)
    for place, image in zip(batch, filled, strict=True):
        place[:, : image.shape[0], : image.shape[1]] = image.transpose(2, 0, 1)
    return ModelInput(batch, sizes, np.array(originals, np.int64))


def padded_size(height: int, width: int, info: ModelInfo) -> tuple[int, int]:
    """The (height, width) that a resized image, or the largest of a batch, is padded to."""
    return (
        info.height or round_up(height, info.size_divisor),
        info.width or round_up(width, info.size_divisor),
    )


def resize_image(pixels: RGBImage, info: ModelInfo) -> npt.NDArray[np.uint8]:
    """Resize an image and order its channels as the network takes them.

    The values are those of detectron2's ``ResizeShortestEdge``: Pillow's bilinear interpolation.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        info: of the model.

    Returns:
        (H', W', C) uint8.

    Raises:
        ModelFileError: the model has an unknown channel order.
    """
    if info.channel_order not in CHANNEL_ORDERS:
        raise ModelFileError(
            f"The model needs images in {info.channel_order!r}, which this runner cannot make. "
            f"Available: {', '.join(CHANNEL_ORDERS)}."
        )
    image = Image.fromarray(pixels)
    if info.channel_order == "L":
        image = image.convert("L")
    height, width = resized_size(pixels.shape[0], pixels.shape[1], info)
    if (height, width) != pixels.shape[:2]:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    resized: npt.NDArray[np.uint8] = np.asarray(image)
    if resized.ndim == 2:
        return np.repeat(resized[:, :, None], info.channels, axis=2)
    return resized[:, :, ::-1] if info.channel_order == "BGR" else resized


def resized_size(height: int, width: int, info: ModelInfo) -> tuple[int, int]:
    """The size that an image is resized to.

    The shorter side gets ``info.min_size`` pixels, but the longer at most ``info.max_size``: the
    rule of detectron2's ``ResizeShortestEdge``, rounded in the same way, with at least one pixel. A
    file of a fixed size scales further down what would not fit.

    Args:
        height: in pixels.
        width: likewise.
        info: of the model.

    Returns:
        (height, width).
    """
    new_height, new_width = float(height), float(width)
    if info.min_size > 0:
        scale = info.min_size / min(height, width)
        if height < width:
            new_height, new_width = float(info.min_size), scale * width
        else:
            new_height, new_width = scale * height, float(info.min_size)
        longer = max(new_height, new_width)
        if longer > info.max_size:
            scale = info.max_size / longer
            new_height, new_width = new_height * scale, new_width * scale
    size = _rounded(new_height, new_width)
    limits = info.height or size[0], info.width or size[1]
    if size[0] <= limits[0] and size[1] <= limits[1]:
        return size
    scale = min(limits[0] / new_height, limits[1] / new_width)
    return _rounded(new_height * scale, new_width * scale)


def _rounded(height: float, width: float) -> tuple[int, int]:
    return max(1, int(height + 0.5)), max(1, int(width + 0.5))


def round_up(value: int, divisor: int) -> int:
    """The next multiple of a divisor."""
    return -(-value // divisor) * divisor
