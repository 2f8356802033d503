"""Finding images, and names for their drawings."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from tood_runtime.image_io import encode_image, read_image, save_image
from tood_runtime.sources import (
    IMAGE_SUFFIXES,
    SourceError,
    collect_images,
    make_image_ids,
    output_paths,
)


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


def test_output_names_are_kept_and_unique(tmp_path):
    images = [Path(p) for p in ("a/x.jpg", "b/x.jpg", "c/a_x.jpg", "c/y.PNG", "d/a/x.jpg")]
    paths = output_paths(images, tmp_path)
    assert [p.name for p in paths] == ["a_x_2.jpg", "b_x.jpg", "a_x.jpg", "y.PNG", "a_x_3.jpg"]
    assert all(p.parent == tmp_path for p in paths)


def test_formats_that_cannot_hold_a_drawing_become_png(tmp_path):
    images = [Path(p) for p in ("picture", "x.gif", "x.pgm", "x.dat", "x.jp2", "x.gif.png")]
    names = [p.name for p in output_paths(images, tmp_path)]
    assert names[0] == "picture.png" and names[2:5] == ["x.pgm.png", "x.dat.png", "x.jp2"]
    assert len(set(names)) == 6


def test_drawings_in_every_format_that_keeps_its_suffix(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    inputs = [Path(f"x{i}{suffix}") for i, suffix in enumerate(sorted(IMAGE_SUFFIXES))]
    for path in output_paths(inputs, tmp_path):
        save_image(image, path)
        error = np.abs(read_image(path).astype(int) - image).mean()
        assert error < 60, path  # JPEG halves the resolution of colors


def test_images_are_never_overwritten(tmp_path):
    original, other = touch(tmp_path, "in/x.png", "y.png")
    (tmp_path / "link.png").symlink_to(original)
    for images in (
        [original],
        [other, tmp_path / "in" / ".." / "in" / "x.png"],
        [tmp_path / "link.png"],  # its drawing "link.png" goes elsewhere, but see below
    ):
        if images[0].is_symlink():
            (tmp_path / "in" / "link.png").symlink_to(other)
            images = [tmp_path / "in" / "link.png"]
        with pytest.raises(SourceError, match=r"would overwrite.*another output folder"):
            output_paths(images, tmp_path / "in")


def test_a_link_in_the_output_folder_may_be_replaced(tmp_path):
    """The writer replaces links, so the image behind one is safe."""
    (original,) = touch(tmp_path, "in/x.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x.png").symlink_to(original)
    assert output_paths([original], tmp_path / "out") == [tmp_path / "out" / "x.png"]


def test_image_ids():
    assert make_image_ids([Path("000139.jpg"), Path("a/42.png")]) == [139, 42]
    assert make_image_ids([Path("1.jpg"), Path("01.png")]) == [1, 2]
    assert make_image_ids([Path("7.jpg"), Path("x.jpg")]) == [1, 2]
    assert make_image_ids([Path("9" * 30 + ".jpg"), Path("7.jpg")]) == [1, 2]
    assert make_image_ids([]) == []
