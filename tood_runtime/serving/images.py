"""Image files of strangers: decoded within limits, and drawn."""

import functools
import io

from PIL import Image, UnidentifiedImageError

from ..detections import Detections
from ..image_io import ImageReadError, RGBImage, as_rgb
from ..image_writing import encode_image
from .errors import RequestError

# Not all that Pillow has: some of its formats start other programs (EPS), or are read by code that
# few people use.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")


def decode_upload(data: bytes, apply_orientation: bool, max_pixels: int) -> RGBImage:
    """Decode an image file as a detector does, the first frame if it has several.

    Args:
        data: the file.
        apply_orientation: whether its EXIF orientation is applied; that of the detector.
        max_pixels: larger images are refused from their header, before they are decoded.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        RequestError: it is none, it is damaged, or it is too large.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_available_formats()) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise _too_many_pixels(max_pixels, f": {width}x{height}")
            return as_rgb(image, apply_orientation=apply_orientation)
    except RequestError:
        raise
    except UnidentifiedImageError as error:
        raise RequestError(
            415,
            f"The file is not an image. Available formats: {', '.join(_available_formats())}.",
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels(max_pixels) from error
    except MemoryError as error:
        raise RequestError(413, "There is not enough memory for the image.") from error
    except ImageReadError as error:
        # Whose message names a file; here is none.
        raise RequestError(422, str(error).replace("the PIL image", "the image")) from error
    except Exception as error:  # Pillow's readers raise many types on broken files
        raise RequestError(422, "The image is damaged.") from error


@functools.cache
def _available_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def draw_image(pixels: RGBImage, found: Detections, suffix: str) -> bytes:
    """Draw detections on their image, and encode it in the format of a suffix.

    Raises:
        RequestError: the format cannot hold an image of this size.
    """
    try:
        return encode_image(found.draw(pixels), suffix)
    except ValueError as error:
        raise RequestError(422, f"The drawing cannot be made: {error}.") from error


def _too_many_pixels(limit: int, size: str = "") -> RequestError:
    return RequestError(413, f"The image has more than {limit:,} pixels{size}.")
