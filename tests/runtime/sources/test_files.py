"""Finding images, and their ids in results."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from tood_runtime.image_io import read_image
from tood_runtime.image_writing import encode_image
from tood_runtime.sources import IMAGE_SUFFIXES, SourceError, collect_images, make_image_ids


def touch(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return paths


def test_suffixes_are_what_the_decoder_reads(tmp_path):
    assert {".jpg", ".jpe", ".jfif", ".png", ".gif", ".ppm", ".pgm", ".bmp"} <= IMAGE_SUFFIXES
    assert (".avif" in IMAGE_SUFFIXES) == bool(features.check("avif"))
    # Not what Pillow reads as vector graphics or videos, or cannot turn into 8 bits.
    assert not {".pdf", ".eps", ".wmf", ".mpg", ".pfm"} & IMAGE_SUFFIXES
    image = Image.fromarray(np.full((8, 8, 3), 90, np.uint8))
    for suffix in IMAGE_SUFFIXES:
        path = tmp_path / f"x{suffix}"
        path.write_bytes(encode_image(image, suffix))
        assert read_image(path).shape == (8, 8, 3), suffix


def test_folders_are_searched_by_suffix(tmp_path):
    wanted = touch(tmp_path, "a/1.JPG", "a/deep/2.jfif", "a/3.gif", "a/4.jp2", "a/5.ppm", "b.jpe")
    touch(tmp_path, "a/notes.txt", "a/no_suffix")
    (tmp_path / "a" / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "a" / "pipe.jpg")
    assert set(collect_images([str(tmp_path)])) == set(wanted)


def test_files_patterns_and_folders_each_once_in_order(tmp_path):
    first, second, odd = touch(tmp_path, "x/b.png", "x/a.png", "y/picture")
    inputs = [str(odd), str(tmp_path / "x" / "b*"), str(tmp_path), f"{tmp_path}/x/../x/a.png"]
    assert collect_images(inputs) == [odd, first, second]
    assert collect_images([f"{tmp_path}/**/*.png"]) == [second, first]
    assert collect_images([f"{tmp_path}/*"]) == [second, first]  # folders that match are searched


def test_names_with_glob_characters_are_files_first(tmp_path):
    (path,) = touch(tmp_path, "x[1].png")
    assert collect_images([str(path)]) == [path]


def test_earlier_drawings_are_skipped_but_not_if_named(tmp_path):
    image, drawn = touch(tmp_path, "a.png", "out/a.png")
    output = tmp_path / "out"
    assert collect_images([str(tmp_path)], output) == [image]
    assert collect_images([f"{tmp_path}/**/*.png"], str(output)) == [image]
    assert collect_images([str(drawn)], output) == [drawn]
    with pytest.raises(SourceError, match=r"Found no images in .*out.* output folder .*skipped"):
        collect_images([str(output)], output)


def test_inputs_without_images_are_named(tmp_path, caplog):
    (image,) = touch(tmp_path, "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "empty").mkdir()
    names = ["missing.png", "*.bmp", "pipe.png", "empty"]
    assert collect_images([str(tmp_path / n) for n in [*names, "a.png"]]) == [image]
    reasons = ["no such file or folder", "no files match", "not a regular file", "no images in"]
    assert len(caplog.messages) == 4
    for name, reason, message in zip(names, reasons, caplog.messages, strict=True):
        assert name in message and reason in message
    with pytest.raises(SourceError, match=r"missing\.png.*\.jpg"):
        collect_images([str(tmp_path / "missing.png")])
    with pytest.raises(SourceError, match="no input"):
        collect_images([])


def test_image_ids():
    assert make_image_ids([Path("000139.jpg"), Path("a/42.png")]) == [139, 42]
    assert make_image_ids([Path("1.jpg"), Path("01.png")]) == [1, 2]
    assert make_image_ids([Path("7.jpg"), Path("x.jpg")]) == [1, 2]
    assert make_image_ids([Path("9" * 30 + ".jpg"), Path("7.jpg")]) == [1, 2]
    assert make_image_ids([]) == []
