"""One decoder: orientation, modes, errors; writing bytes safely."""

import os

import numpy as np
import pytest
from detectron2.data.detection_utils import read_image as detectron2_read_image
from PIL import Image

from tood_runtime.image_io import (
    ImageReadError,
    ImageWriteError,
    as_rgb,
    encode_image,
    printable_path,
    read_image,
    save_image,
)


@pytest.fixture
def scene() -> np.ndarray:
    """(40, 60, 3): smooth, without symmetry, every channel different."""
    y, x = np.mgrid[:40, :60]
    return np.stack([4 * x, 5 * y, 2 * (x + y)], axis=2).astype(np.uint8)


def save_turned(image: np.ndarray, orientation: int, path) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(image).save(path, exif=exif)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_orientation_is_applied_as_in_training(scene, tmp_path, orientation, suffix):
    path = tmp_path / f"x{suffix}"
    save_turned(scene, orientation, path)
    image = read_image(path)
    assert image.shape == ((40, 60, 3) if orientation < 5 else (60, 40, 3))
    np.testing.assert_array_equal(image, detectron2_read_image(str(path), "RGB"))


def test_orientation_is_applied_once_to_tiff(scene, tmp_path):
    """Pillow turns TIFF files while it loads them."""
    save_turned(scene, 6, tmp_path / "x.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), np.rot90(scene, -1))


def test_broken_exif_data_is_ignored(scene, tmp_path):
    Image.fromarray(scene).save(tmp_path / "x.png", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), scene)


@pytest.mark.parametrize(
    "mode, suffix",
    [
        *(("L", ".png"), ("LA", ".png"), ("P", ".png"), ("P", ".gif"), ("1", ".png")),
        *(("RGBA", ".png"), ("RGBA", ".webp"), ("CMYK", ".jpg"), ("CMYK", ".tif")),
        *(("L", ".pgm"), ("RGB", ".ppm"), ("RGB", ".bmp"), ("YCbCr", ".jpg"), ("RGB", ".jp2")),
    ],
)
def test_modes_become_rgb_as_in_training(scene, tmp_path, mode, suffix):
    path = tmp_path / f"x{suffix}"
    Image.fromarray(scene).convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (40, 60, 3) and image.dtype == np.uint8
    np.testing.assert_array_equal(image, detectron2_read_image(str(path), "RGB"))


def test_16_bit_gray_keeps_the_high_byte(tmp_path):
    ramp = np.linspace(0, 65535, 256).reshape(16, 16).astype(np.uint16)
    for suffix in (".png", ".tif", ".pgm"):
        Image.fromarray(ramp).save(tmp_path / f"x{suffix}")
        image = read_image(tmp_path / f"x{suffix}")
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, np.stack([ramp >> 8] * 3, axis=2))


@pytest.mark.parametrize("dtype, word", [(np.float32, "floating-point"), (np.int32, "32-bit")])
def test_pixels_without_a_range_are_refused(tmp_path, dtype, word):
    Image.fromarray(np.ones((4, 4), dtype)).save(tmp_path / "x.tif")
    with pytest.raises(ImageReadError, match=rf"x\.tif.*{word}"):
        read_image(tmp_path / "x.tif")


def test_unreadable_files_name_the_file(scene, tmp_path):
    whole = encode_image(scene, ".jpg")
    contents = {"text.jpg": b"no image", "empty.png": b"", "cut.jpg": whole[: len(whole) // 2]}
    contents["header.ppm"] = b"P6 many"
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nowhere")
    names = [*contents, "folder.jpg", "pipe.jpg", "link.jpg", "missing.jpg", "x" * 300 + ".jpg"]
    for name in names:
        with pytest.raises(ImageReadError) as error:
            read_image(tmp_path / name)
        assert name in str(error.value) and "\n" not in str(error.value)
        assert isinstance(error.value, ValueError)


def test_too_many_pixels_are_refused(tmp_path):
    Image.new("1", (20000, 10000)).save(tmp_path / "slide.png")
    with pytest.raises(ImageReadError, match=r"slide\.png.*exceeds limit"):
        read_image(tmp_path / "slide.png")


def test_as_rgb_gives_the_same_pixels_for_all_kinds(scene, tmp_path):
    save_turned(scene, 6, tmp_path / "x.png")
    expected = np.rot90(scene, -1)
    with Image.open(tmp_path / "x.png") as image:
        np.testing.assert_array_equal(as_rgb(image), expected)
    np.testing.assert_array_equal(as_rgb(str(tmp_path / "x.png")), expected)
    assert as_rgb(scene) is scene
    bgr = as_rgb(scene[:, :, ::-1], "BGR")
    np.testing.assert_array_equal(bgr, scene)
    assert bgr.flags.c_contiguous


@pytest.mark.parametrize(
    "image, error, message",
    [
        (None, TypeError, "cv2.imread"),
        ([[1]], TypeError, "got list"),
        (b"x.png", TypeError, "got bytes"),
        (np.zeros((4, 4), np.uint8), ValueError, "Repeat a gray"),
        (np.zeros((4, 4, 1), np.uint8), ValueError, "Repeat a gray"),
        (np.zeros((4, 4, 4), np.uint8), ValueError, "Drop the alpha"),
        (np.zeros((3, 4, 5), np.uint8), ValueError, "image.transpose"),
        (np.zeros((2, 4, 5, 3), np.uint8), ValueError, "one image at a time"),
        (np.zeros((4, 4, 3), np.float32), TypeError, "float32.*Scale"),
        (np.zeros((4, 4, 3), np.uint16), TypeError, "uint16"),
        (np.zeros((4, 4, 3), bool), TypeError, "bool"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, "empty"),
        (Image.new("RGB", (0, 4)), ValueError, "empty"),
        (Image.new("F", (4, 4)), ImageReadError, "floating-point"),
    ],
)
def test_unsupported_input_is_explained_in_one_sentence(image, error, message):
    with pytest.raises(error, match=message) as caught:
        as_rgb(image)
    assert "\n" not in str(caught.value)


def test_unknown_channel_order(scene):
    with pytest.raises(ValueError, match=r"channel_order 'rgb'\. Available: BGR, RGB"):
        as_rgb(scene, "rgb")


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".bmp", ".tif", ".tiff", ".ppm", ".jp2"])
def test_saved_images_read_back(scene, tmp_path, suffix):
    save_image(Image.fromarray(scene), tmp_path / f"x{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"x{suffix}"), scene)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".jpe", ".jfif", ".webp"])
def test_lossy_formats_stay_close(scene, tmp_path, suffix):
    save_image(scene, tmp_path / f"x{suffix}")
    error = np.abs(read_image(tmp_path / f"x{suffix}").astype(int) - scene)
    assert error.mean() < 3


def test_a_name_that_is_not_utf8(scene, tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    save_image(scene, path)
    np.testing.assert_array_equal(read_image(path), scene)
    assert printable_path(path).endswith("caf\\xe9.png")
    with pytest.raises(ImageReadError) as error:
        read_image(path + "x")
    str(error.value).encode()  # can be printed


def test_a_link_is_replaced_and_not_written_through(scene, tmp_path):
    target = tmp_path / "original.png"
    target.write_bytes(b"precious")
    (tmp_path / "link.png").symlink_to(target)
    save_image(scene, tmp_path / "link.png")
    assert target.read_bytes() == b"precious"
    assert not (tmp_path / "link.png").is_symlink()
    np.testing.assert_array_equal(read_image(tmp_path / "link.png"), scene)


def test_a_failure_leaves_the_old_file_and_nothing_else(scene, tmp_path):
    (tmp_path / "wide.webp").write_bytes(b"old")
    with pytest.raises(ImageWriteError, match=r"wide\.webp"):
        save_image(np.zeros((1, 20000, 3), np.uint8), tmp_path / "wide.webp")  # WebP: 16383
    assert (tmp_path / "wide.webp").read_bytes() == b"old"
    (tmp_path / "folder.png").mkdir()
    for name in ("folder.png", "missing/x.png", "x.what", "x"):
        with pytest.raises(ImageWriteError, match=name.replace(".", r"\.")):
            save_image(scene, tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.png", "wide.webp"]


def test_files_get_the_usual_permissions(scene, tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    save_image(scene, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_mode == (tmp_path / "plain").stat().st_mode
