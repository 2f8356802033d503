"""PNG files, whose pixels all decoders agree on, with what makes decoders differ."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Smooth random shapes: an image in which neighbors are alike, as in photographs."""
    generator = np.random.default_rng(height * 1000 + width)
    small = generator.integers(0, 256, (height // 8 + 1, width // 8 + 1, channels), np.uint8)
    mode = {3: "RGB", 4: "RGBA"}[channels]
    image = Image.fromarray(small, mode).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image)


def save_png(path: Path, pixels: np.ndarray, **options) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def gamma_chunk() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add(b"gAMA", (100000).to_bytes(4, "big"))  # linear light
    return info


def color_profile() -> bytes:
    """A profile whose colors differ from sRGB's: red and blue are swapped."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert profile.count(b"rXYZ") == profile.count(b"bXYZ") == 1
    return profile.replace(b"rXYZ", b"?XYZ").replace(b"bXYZ", b"rXYZ").replace(b"?XYZ", b"bXYZ")


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif
