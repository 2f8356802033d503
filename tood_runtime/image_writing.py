"""Encoding images, and writing them so that no file is ever half there."""

import io
import os
import secrets
from pathlib import Path

from PIL import Image

from .image_io import RGBImage, error_reason, printable_path

# Pillow's default of 75 blurs the thin lines and the text of drawings.
_QUALITY = {"JPEG": 95, "WEBP": 95}


class ImageWriteError(OSError):
    """An image that cannot be encoded or written; the message names the file."""


def encode_image(image: Image.Image | RGBImage, suffix: str) -> bytes:
    """Encode an RGB image in the format of a file name's suffix, such as ".png".

    Raises:
        ValueError: Pillow cannot write this format, or not an image of this size.
    """
    image_format = Image.registered_extensions().get(suffix.lower())
    if image_format not in Image.SAVE:
        raise ValueError(f"Pillow writes no image format with the suffix {suffix!r}")
    options = {"quality": _QUALITY[image_format]} if image_format in _QUALITY else {}
    buffer = io.BytesIO()
    try:
        if not isinstance(image, Image.Image):
            image = Image.fromarray(image)
        image.save(buffer, image_format, **options)
    except (OSError, ValueError, SystemError) as error:
        raise ValueError(
            f"{image_format} cannot hold this image ({error_reason(error)})"
        ) from error
    return buffer.getvalue()


def save_image(image: Image.Image | RGBImage, path: str | os.PathLike[str]) -> None:
    """Write an RGB image in the format of the path's suffix.

    The image is encoded first, then moved into place atomically: an existing file stays whole if
    anything fails, and a symbolic link is replaced, its target untouched. File names need not be
    UTF-8.

    Args:
        image: a PIL image, or (H, W, 3) uint8 RGB.
        path: a file in an existing folder.

    Raises:
        ImageWriteError: the image cannot be encoded or written.
    """
    path = Path(path)
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        data = encode_image(image, path.suffix)
        try:
            temporary.write_bytes(data)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        raise ImageWriteError(
            f"Cannot write the image {printable_path(path)}: {error_reason(error)}."
        ) from error
