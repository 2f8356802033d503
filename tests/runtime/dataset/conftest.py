import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def write_images():
    """Writes images of two sizes: ``write_images(folder, count)``."""

    def write(folder, count, suffix=".png"):
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        for i in range(count):
            size = (20, 30, 3) if i % 3 else (40, 30, 3)
            pixels = rng.integers(0, 256, size, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"image{i:04d}{suffix}")
        return folder

    return write


@pytest.fixture(scope="session")
def images(write_images, tmp_path_factory):
    """A folder of 30 images and a broken one, some in a subfolder."""
    folder = write_images(tmp_path_factory.mktemp("images"), 26)
    write_images(folder / "sub folder", 4)
    (folder / "broken.jpg").write_bytes(b"no image")
    (folder / "notes.md").write_text("not an image")
    return folder
