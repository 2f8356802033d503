"""Headers agree with what the decoder returns, and no pixel is decoded for them."""

import os
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile

from tood_runtime.image_header import is_animated, read_header
from tood_runtime.image_io import ImageReadError, read_image


@pytest.fixture
def no_decoding(monkeypatch):
    def load(self):
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)


def save_turned(path, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    Image.new("RGB", (60, 40)).save(path, exif=exif)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_size_is_that_of_the_decoded_image(tmp_path, suffix, orientation):
    path = tmp_path / f"x{suffix}"
    save_turned(path, orientation)
    header = read_header(path)
    assert header.size == read_image(path).shape[1::-1]
    assert header.size == ((60, 40) if orientation < 5 else (40, 60))
    assert header.stored_size == (header.size if suffix == ".tif" else (60, 40))
    assert header.orientation == orientation


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_no_pixel_is_decoded(tmp_path, no_decoding, suffix):
    Image.new("RGB", (60, 40)).save(tmp_path / f"x{suffix}")
    assert read_header(tmp_path / f"x{suffix}").size == (60, 40)


def test_orientation_after_the_pixels_of_a_png_is_found(tmp_path):
    save_turned(tmp_path / "x.png", 6)
    data = (tmp_path / "x.png").read_bytes()
    start = data.index(b"eXIf") - 4
    length = int.from_bytes(data[start : start + 4], "big") + 12
    chunk, end = data[start : start + length], len(data) - 12
    (tmp_path / "x.png").write_bytes(data[:start] + data[start + length : end] + chunk + data[end:])
    header = read_header(tmp_path / "x.png")
    assert header.orientation == 6
    assert header.size == read_image(tmp_path / "x.png").shape[1::-1] == (40, 60)


def test_text_after_the_pixels_of_a_png_needs_no_decoding(tmp_path, no_decoding):
    Image.new("RGB", (60, 40)).save(tmp_path / "x.png")
    data = (tmp_path / "x.png").read_bytes()
    text = b"tEXtdate:create\x002026"
    chunk = (len(text) - 4).to_bytes(4, "big") + text + zlib.crc32(text).to_bytes(4, "big")
    (tmp_path / "x.png").write_bytes(data[:-12] + chunk + data[-12:])
    assert read_header(tmp_path / "x.png").orientation == 1


def test_sixteen_bits_per_channel(tmp_path):
    gray, color = np.zeros((40, 60), np.uint16), np.zeros((40, 60, 3), np.uint16)
    Image.fromarray(gray).save(tmp_path / "gray.png")
    Image.fromarray(gray).save(tmp_path / "gray.pgm")
    cv2.imwrite(str(tmp_path / "color.png"), color)
    cv2.imwrite(str(tmp_path / "color.tif"), color)
    for name in ("gray.png", "gray.pgm", "color.png", "color.tif"):
        header = read_header(tmp_path / name)
        assert header.is_16_bit and not header.is_unsupported, name
        assert read_image(tmp_path / name).shape == (40, 60, 3)
    Image.new("RGB", (60, 40)).save(tmp_path / "plain.png")
    assert not read_header(tmp_path / "plain.png").is_16_bit


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_what_the_decoder_rejects(tmp_path, dtype):
    Image.fromarray(np.zeros((40, 60), dtype)).save(tmp_path / "x.tif")
    assert read_header(tmp_path / "x.tif").is_unsupported
    with pytest.raises(ImageReadError):
        read_image(tmp_path / "x.tif")


def test_animations(tmp_path):
    frames = [Image.new("L", (60, 40), value) for value in (0, 200)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "still.gif")
    frames[0].save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=frames[1:])
    assert is_animated(tmp_path / "x.gif")
    assert not is_animated(tmp_path / "still.gif")
    assert not is_animated(tmp_path / "phone.jpg")


def test_unreadable_files(tmp_path, monkeypatch):
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "pipe.jpg")
    Image.new("1", (60, 40)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60 * 40 / 2 - 1)
    for name, reason in {
        "text.jpg": "not an image",
        "empty.png": "not an image",
        "pipe.jpg": "not a regular file",
        "none.jpg": "does not exist",
        "large.png": "exceeds limit",
    }.items():
        with pytest.raises(ImageReadError, match=f"{name}: .*{reason}"):
            read_header(tmp_path / name)


def test_named_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.gif")
    assert not is_animated(tmp_path / "a.gif")
    with pytest.raises(ImageReadError, match="not a regular file"):
        read_header(tmp_path / "a.gif")
