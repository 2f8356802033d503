"""What the header of an image file says, without decoding its pixels."""

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

from PIL import ExifTags, Image, PngImagePlugin

from .image_io import is_16_bit, reading_image

# Values of the orientation tag that exchange width and height.
_SWAPS_SIDES = (5, 6, 7, 8)
# What PNG files hold EXIF data or XMP in; it may follow the pixels, where a header ends for Pillow.
_PNG_TEXT_WITH_ORIENTATION = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")


@dataclass(frozen=True)
class ImageHeader:
    """The header of an image file.

    Attributes:
        size: (width, height) in pixels, as `read_image` returns the image.
        stored_size: (width, height) before the orientation tag is applied. Pillow applies that of
            TIFF files in any case, so both sizes of a TIFF file are equal.
        mode: Pillow's mode, such as "RGB" or "I;16".
        format: Pillow's name of the file format, such as "JPEG".
        orientation: the EXIF (or XMP) orientation tag, 2 to 8; 1 where there is none or it is
            invalid.
        is_16_bit: 16 bits per channel, of which `read_image` keeps the high byte.
        is_unsupported: floating-point or 32-bit integer pixels, which `read_image` rejects.
    """

    size: tuple[int, int]
    stored_size: tuple[int, int]
    mode: str
    format: str
    orientation: int
    is_16_bit: bool
    is_unsupported: bool

    @property
    def swaps_sides(self) -> bool:
        """Whether the orientation tag exchanges width and height."""
        return self.orientation in _SWAPS_SIDES


def read_header(path: str | os.PathLike[str]) -> ImageHeader:
    """Read the header of an image file.

    Args:
        path: a regular file.

    Raises:
        ImageReadError: the file is missing, is not an image that Pillow reads, or has more pixels
            than Pillow's limit.
    """
    with reading_image(path), open(path, "rb") as file, Image.open(file) as image:
        return _describe(image, file)


def is_animated(path: str | os.PathLike[str]) -> bool:
    """Whether an image file has several frames, of which `read_image` decodes the first.

    The second image of a phone's JPEG (MPO), a preview or a depth map, does not count.
    """
    try:
        with reading_image(path), Image.open(path) as image:
            return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except Exception:  # as in read_header
        return False


def _describe(image: Image.Image, file: BinaryIO) -> ImageHeader:
    image_format = image.format or ""
    width, height = image.size
    orientation = _orientation(image, file)
    swapped = orientation in _SWAPS_SIDES and image_format != "TIFF"
    sixteen_bit = is_16_bit(image)
    return ImageHeader(
        size=(height, width) if swapped else (width, height),
        stored_size=(width, height),
        mode=image.mode,
        format=image_format,
        orientation=orientation,
        is_16_bit=sixteen_bit,
        is_unsupported=image.mode in ("F", "I") and not sixteen_bit,
    )


def _orientation(image: Image.Image, file: BinaryIO) -> int:
    try:
        if isinstance(image, PngImagePlugin.PngImageFile) and not _has_late_orientation(file):
            # Pillow's own method decodes a PNG file in search of what is known not to be there.
            exif = Image.Image.getexif(image)
        else:
            exif = image.getexif()
        orientation = exif.get(ExifTags.Base.Orientation)
    except Exception:  # Broken EXIF data must not make the image unreadable.
        return 1
    return orientation if isinstance(orientation, int) and 2 <= orientation <= 8 else 1


def _has_late_orientation(file: BinaryIO) -> bool:
    """Whether a PNG file has EXIF data or XMP after the pixels; the file's position is kept."""
    position = file.tell()
    try:
        file.seek(8)
        after_pixels = False
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            after_pixels |= kind == b"IDAT"
            if after_pixels and kind == b"eXIf":
                return True
            start = file.tell()
            if after_pixels and kind in (b"iTXt", b"zTXt", b"tEXt"):
                text = file.read(min(length, 32))
                if text.startswith(_PNG_TEXT_WITH_ORIENTATION):
                    return True
            file.seek(start + length + 4)  # and the checksum
        return False
    finally:
        file.seek(position)
