"""One decoder: orientation, modes, errors; writing bytes safely."""

import logging
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from detectron2.data.detection_utils import read_image as detectron2_read_image
from PIL import Image

from tood_runtime import image_io
from tood_runtime.image_io import (
    ImageReadError,
    as_rgb,
    decode_image,
    printable_path,
    read_image,
)
from tood_runtime.image_writing import ImageWriteError, encode_image, save_image
from tood_runtime.sources import IMAGE_SUFFIXES


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


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".jp2", ".tif"])
def test_stored_pixels(scene, tmp_path, suffix):
    """What Pillow does with TIFF files is not undone."""
    save_turned(scene, 6, tmp_path / f"x{suffix}")
    image = read_image(tmp_path / f"x{suffix}", apply_orientation=False)
    assert image.shape == ((60, 40, 3) if suffix == ".tif" else (40, 60, 3))
    if suffix == ".png":
        np.testing.assert_array_equal(image, scene)
        with Image.open(tmp_path / "x.png") as opened:
            np.testing.assert_array_equal(as_rgb(opened, apply_orientation=False), scene)


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


def test_16_bits_are_logged_once(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(image_io, "_has_logged_16_bit", False)
    caplog.set_level(logging.INFO, logger="tood_runtime")
    Image.new("RGB", (4, 4)).save(tmp_path / "8.png")
    Image.fromarray(np.full((4, 4), 700, np.uint16)).save(tmp_path / "gray.png")
    color = np.full((4, 4, 3), [258, 32768, 65535], ">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in color)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    (tmp_path / "color.png").write_bytes(png)
    read_image(tmp_path / "8.png")
    assert not caplog.messages
    np.testing.assert_array_equal(read_image(tmp_path / "color.png")[0, 0], [1, 128, 255])
    read_image(tmp_path / "gray.png")
    read_image(tmp_path / "color.png")
    (message,) = caplog.messages
    assert "color.png has 16 bits per channel" in message and "high byte" in message


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
    with pytest.raises(ImageReadError, match=r"slide\.png.*too many pixels.*exceeds limit"):
        read_image(tmp_path / "slide.png")


def test_many_pixels_where_warnings_are_errors(scene, tmp_path, monkeypatch):
    save_image(scene, tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40 * 60 - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageReadError, match=r"x\.png.*too many pixels"):
            read_image(tmp_path / "x.png")


@pytest.mark.parametrize(
    "raised, reason",
    [
        (MemoryError(), "not enough memory"),
        (RecursionError("maximum\nrecursion depth"), "maximum recursion depth"),
        (struct.error("unpack requires 4 bytes"), "4 bytes"),
        (zlib.error("Error -3"), "Error -3"),
        (SyntaxError("broken PNG file"), "broken PNG file"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_whatever_a_reader_raises(scene, tmp_path, monkeypatch, raised, reason):
    def load(*_):
        raise raised

    save_image(scene, tmp_path / "x.png")
    monkeypatch.setattr(Image.Image, "convert", load)
    with pytest.raises(ImageReadError) as error:
        read_image(tmp_path / "x.png")
    message = str(error.value)
    assert "x.png" in message and reason in message and "\n" not in message


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_damaged_files_of_every_format(scene, tmp_path, suffix):
    """Cut anywhere, or with bytes changed: the pixels or one sentence."""
    whole = encode_image(scene, suffix)
    path = tmp_path / f"x{suffix}"
    rng = np.random.default_rng(0)
    for n in range(12):
        damaged = bytearray(whole[: int(rng.integers(len(whole)))] if n % 2 else whole)
        for place in rng.integers(0, max(1, len(damaged)), 1 + n // 2):
            damaged[place : place + 1] = rng.bytes(1)
        path.write_bytes(damaged)
        try:
            assert read_image(path).shape[2] == 3
        except ImageReadError as error:
            assert path.name in str(error) and "\n" not in str(error)


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


def test_the_first_frame_is_taken_and_said_once(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(image_io, "_has_logged_frames", False)
    caplog.set_level(logging.INFO, logger="tood_runtime")
    frames = [Image.new("RGB", (8, 6), color) for color in ("red", "blue")]
    for suffix in ("gif", "png", "tif"):
        frames[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:])
        assert tuple(read_image(tmp_path / f"x.{suffix}")[3, 3]) == (255, 0, 0)
    assert len(caplog.messages) == 1 and "x.gif has several frames" in caplog.messages[0]


def test_bytes_of_a_file(scene, tmp_path):
    data = encode_image(scene, ".png")
    (tmp_path / "x.png").write_bytes(data)
    np.testing.assert_array_equal(decode_image(data, "x"), read_image(tmp_path / "x.png"))
    with pytest.raises(ImageReadError, match="Cannot read the image upload: it is not an image"):
        decode_image(b"text", "upload")
    with pytest.raises(ImageReadError, match="Cannot read the image upload"):
        decode_image(data[:60], "upload")
