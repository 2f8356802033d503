"""Decoding images: one decoder for every program.

Images are (H, W, 3) uint8 arrays in RGB order, values 0 to 255.
"""

import io
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from .image_arrays import RGBImage as RGBImage  # named by whoever reads images
from .image_arrays import require_image_array, require_pixels

logger = logging.getLogger(__name__)

ImageInput: TypeAlias = str | os.PathLike[str] | Image.Image | RGBImage

_has_logged_16_bit = False
_has_logged_frames = False

# Formats with frames or pages. (Those of MPO files are the same image at other sizes.)
_ANIMATED = ("GIF", "PNG", "WEBP", "TIFF", "AVIF")

_CHANNEL_ORDERS = ("BGR", "RGB")

# What undoes each value of the EXIF orientation tag. 1 is upright; others are invalid and ignored.
_UNDO_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow's names of pixels with 16 bits per channel; without B, L or N they mean 5-6-5 bits.
_RAW_16_BIT = re.compile(r";16[BLN]")


class ImageReadError(ValueError):
    """An image that cannot be decoded; the message names the file."""


def printable_path(path: str | os.PathLike[str]) -> str:
    """Return a path as text that can be printed, with bytes that are not UTF-8 escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def read_image(
    path: str | os.PathLike[str], apply_orientation: bool = True, min_side: int | None = None
) -> RGBImage:
    """Decode an image file, the first frame if it has several.

    Palette, gray and CMYK images become RGB; an alpha channel is dropped. 16-bit gray images keep
    the high byte of each pixel, which is what Pillow does with 16-bit color images; the first such
    image is logged. The pixels of 8-bit JPEG and PNG files are those of detectron2's
    ``read_image``.

    Args:
        path: a regular file.
        apply_orientation: turn the image as its EXIF orientation says, as detectron2 does when it
            reads training images. Pillow turns TIFF files in any case.
        min_side: for a rough look, decode JPEG files at a fraction of their size, with at least so
            many pixels per side.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageReadError: the file is missing, is not an image that Pillow decodes, has floating-point
            pixels, or exceeds Pillow's limit on the number of pixels.
    """
    with reading_image(path):
        return _decode(path, apply_orientation, min_side)


def decode_image(data: bytes, name: str, apply_orientation: bool = True) -> RGBImage:
    """Decode the bytes of an image file; see :func:`read_image`.

    Args:
        data: of the file.
        name: for messages.
        apply_orientation: see :func:`read_image`.

    Raises:
        ImageReadError: see :func:`read_image`.
    """
    with _naming_image(name):
        return _decode(io.BytesIO(data), apply_orientation)


def _decode(
    file: str | os.PathLike[str] | io.BytesIO, apply_orientation: bool, min_side: int | None = None
) -> RGBImage:
    with Image.open(file) as image:
        _say_what_is_dropped(image)
        if min_side is not None and image.format == "JPEG":
            image.draft("RGB", (min_side, min_side))
        pixels = _pil_to_rgb(image, apply_orientation)
    if pixels.size == 0:
        raise ImageReadError("it has no pixels")
    return pixels


@contextmanager
def reading_image(path: str | os.PathLike[str]) -> Iterator[None]:
    """Read from an image file: whatever goes wrong is an ImageReadError that names the file.

    Raises:
        ImageReadError: the file is missing or not a regular file, or it cannot be read.
    """
    with _naming_image(path):
        # Opening a named pipe would wait for its writer.
        if not Path(path).is_file():
            reason = "it is not a regular file" if os.path.lexists(path) else "it does not exist"
            raise ImageReadError(reason)
        yield


@contextmanager
def _naming_image(name: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Pillow's readers raise many types on broken files.
        raise ImageReadError(
            f"Cannot read the image {printable_path(name)}: {error_reason(error)}."
        ) from error


def require_channel_order(name: str) -> None:
    """Raise a ValueError for an unknown channel order."""
    if name not in _CHANNEL_ORDERS:
        raise ValueError(f"Unknown channel_order {name!r}. Available: {', '.join(_CHANNEL_ORDERS)}")


def as_rgb(
    image: ImageInput, channel_order: str = "RGB", apply_orientation: bool = True
) -> RGBImage:
    """Return any accepted image as an RGB array.

    Args:
        image: a path, a PIL image, or a (H, W, 3) uint8 array.
        channel_order: of an array: "RGB", or "BGR" for OpenCV's. Files and PIL images know theirs.
        apply_orientation: of paths and PIL images; see `read_image`.

    Returns:
        (H, W, 3) uint8 RGB; the array itself where it already is that.

    Raises:
        TypeError: not one of the accepted types.
        ValueError: an array of another shape, an empty image or an unknown ``channel_order``.
        ImageReadError: the image cannot be decoded.
    """
    require_channel_order(channel_order)
    if isinstance(image, (str, os.PathLike)):
        return read_image(image, apply_orientation)
    if isinstance(image, Image.Image):
        try:
            pixels = _pil_to_rgb(image, apply_orientation)
        except Exception as error:  # as in read_image; the pixels may still be in a file
            raise ImageReadError(f"Cannot read the PIL image: {error_reason(error)}.") from error
        require_pixels(pixels)
        return pixels
    image = require_image_array(image)
    return image if channel_order == "RGB" else np.ascontiguousarray(image[:, :, ::-1])


def is_16_bit(image: Image.Image) -> bool:
    """Whether `read_image` keeps the high byte only; of an image that is not loaded yet."""
    if image.mode == "I":  # how Pillow holds 16 bits of these formats
        return image.format in ("PNG", "PPM")
    return image.mode.startswith("I;16") or any(
        _RAW_16_BIT.search(str(tile[3])) for tile in getattr(image, "tile", ())
    )


def _pil_to_rgb(image: Image.Image, apply_orientation: bool) -> RGBImage:
    if is_16_bit(image):
        _log_16_bit(image)
    # Load first: Pillow applies the orientation of some formats (TIFF) while it loads them, and
    # removes the tag. Reading the tag earlier would turn such an image twice.
    image.load()
    if apply_orientation:
        image = _apply_orientation(image)
    if image.mode.startswith("I;16"):
        return _high_byte(np.asarray(image))
    if image.mode == "I" and image.format in ("PNG", "PPM"):
        return _high_byte(np.asarray(image))
    if image.mode in ("F", "I"):
        kind = "floating-point" if image.mode == "F" else "32-bit integer"
        raise ImageReadError(f"its pixels are {kind} numbers; convert it to 8 bits per channel")
    return np.array(image.convert("RGB"))


def _say_what_is_dropped(image: Image.Image) -> None:
    """Log, once per process, what the pixels of an image file lose."""
    global _has_logged_frames
    is_animated = image.format in _ANIMATED and getattr(image, "is_animated", False)
    if is_animated and not _has_logged_frames:
        _has_logged_frames = True
        logger.info("%s has several frames. Of such files, the first is used.", _name_of(image))


def _log_16_bit(image: Image.Image) -> None:
    """Say once per process what happens to 16 bits."""
    global _has_logged_16_bit
    if not _has_logged_16_bit:
        _has_logged_16_bit = True
        logger.info(
            "%s has 16 bits per channel. Of such images, the high byte is used.", _name_of(image)
        )


def _name_of(image: Image.Image) -> str:
    return printable_path(getattr(image, "filename", "") or "An image")


def _apply_orientation(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # Broken EXIF data must not make the pixels unreadable.
        return image
    method = None if orientation is None else _UNDO_ORIENTATION.get(orientation)
    if method is None:
        return image
    turned = image.transpose(method)
    turned.format = image.format
    return turned


def _high_byte(gray: npt.NDArray[Any]) -> RGBImage:
    """Convert (H, W) 16-bit gray to (H, W, 3) uint8."""
    return np.repeat((gray >> 8).astype(np.uint8)[:, :, None], 3, axis=2)


def error_reason(error: Exception) -> str:
    """One line that says what failed, without the file name that the caller adds."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image in a format that Pillow decodes"
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    text = " ".join(str(error).split()).rstrip(".")
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"it has too many pixels; cut it into smaller images ({text})"
    return text or type(error).__name__
