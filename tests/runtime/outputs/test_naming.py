"""Names of the files that outputs go to."""

from pathlib import Path

import numpy as np
import pytest

from tests.runtime.sources.test_files import touch
from tood_runtime.image_io import read_image
from tood_runtime.image_writing import save_image
from tood_runtime.outputs.naming import folder_name, frame_path, output_paths
from tood_runtime.sources import IMAGE_SUFFIXES, SourceError


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


def test_frames_and_folders():
    assert frame_path(Path("a/clip.txt"), 12) == Path("a/clip_000012.txt")
    assert frame_path(Path("a/x.y.txt"), None) == Path("a/x.y.txt")
    assert folder_name("traffic light") == "traffic light"
    assert folder_name("a/b\\c:d") == "a_b_c_d"
    assert folder_name("..") == folder_name("") == "_"
