"""Image files of each format that people have."""

import io
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from ..files import Case

_ORIENTATION = 274


def sample_image(seed: int, size: tuple[int, int] = (48, 40), mode: str = "RGB") -> Image.Image:
    """A smooth random image."""
    values = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(values).resize(size, Image.Resampling.BICUBIC).convert(mode)


def encode(image: Image.Image, image_format: str, **options: Any) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def image_cases() -> list[Case]:
    """Files of nine formats, some with EXIF data, text, palettes, 16 bits or several frames."""
    exif = Image.Exif()
    exif[_ORIENTATION] = 6
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 300, zip=True)
    text.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta xmlns:x="adobe:ns:meta/"/>')
    frames = [sample_image(seed, (20, 16)) for seed in range(3)]
    gray_16 = Image.fromarray(np.arange(40 * 30, dtype=np.uint16).reshape(30, 40) * 50)
    files = {
        "a.png": encode(sample_image(0), "PNG", pnginfo=text),
        "palette.png": encode(sample_image(1, mode="P"), "PNG", transparency=1),
        "sixteen.png": encode(gray_16, "PNG"),
        "frames.png": encode(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "a.jpg": encode(sample_image(2), "JPEG", exif=exif, quality=80),
        "progressive.jpg": encode(
            sample_image(3), "JPEG", progressive=True, icc_profile=b"x" * 200
        ),
        "cmyk.jpg": encode(sample_image(4, mode="CMYK"), "JPEG"),
        "a.gif": encode(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "a.tif": encode(sample_image(5), "TIFF", compression="tiff_lzw", exif=exif),
        "plain.tif": encode(gray_16, "TIFF"),
        "a.webp": encode(sample_image(6), "WEBP", exif=exif),
        "frames.webp": encode(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "a.bmp": encode(sample_image(7), "BMP"),
        "a.ppm": encode(sample_image(8), "PPM"),
    }
    return [Case("image", name, {name: data}) for name, data in files.items()]
