"""Headers of a dataset's images: every kind of problem, once, with its count."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tood.data.dataset import DetectionDataset
from tood.data.image_headers import check_header, check_image_headers
from tood.data.normalize import build_dataset


def save_turned(path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    Image.new("RGB", (60, 40)).save(path, exif=exif)


def dataset_of(paths: list[Path], sizes: list[tuple[int, int]]) -> DetectionDataset:
    return build_dataset(
        source="a.json",
        class_names=["cell"],
        category_ids=[1],
        file_names=[str(path) for path in paths],
        image_ids=range(len(paths)),
        widths=[width for width, _ in sizes],
        heights=[height for _, height in sizes],
        image_index=[],
        class_ids=[],
        boxes=[],
    )


def kinds(path: Path, size: tuple[int, int] = (60, 40), apply_exif: bool = True) -> list[str]:
    return [kind.name for kind, _ in check_header(str(path), size, apply_exif)]


def test_good_image(tmp_path):
    Image.new("RGB", (60, 40)).save(tmp_path / "x.jpg")
    assert kinds(tmp_path / "x.jpg") == []


def test_files_that_are_no_images(tmp_path):
    (tmp_path / "text.jpg").write_text("x")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nowhere")
    Image.fromarray(np.zeros((40, 60), np.float32)).save(tmp_path / "float.tif")
    assert kinds(tmp_path / "none.jpg") == ["missing-image"]
    assert kinds(tmp_path / "text.jpg") == ["unreadable-image"]
    assert kinds(tmp_path / "pipe.jpg") == ["unreadable-image"]
    assert kinds(tmp_path / "link.jpg") == ["unreadable-image"]
    assert kinds(tmp_path / "float.tif") == ["unsupported-pixels"]
    [(_, details)] = check_header(str(tmp_path / "pipe.jpg"), (60, 40))
    assert details == " (it is not a regular file)"


def test_sizes_and_orientation(tmp_path):
    save_turned(tmp_path / "turned.jpg", 6)  # upright 40x60
    path = tmp_path / "turned.jpg"
    assert kinds(path, (40, 60)) == ["orientation"]
    assert kinds(path, (60, 40)) == ["size-before-orientation", "orientation"]
    assert kinds(path, (50, 40)) == ["wrong-size", "orientation"]
    assert kinds(path, (60, 40), apply_exif=False) == ["orientation"]
    assert kinds(path, (40, 60), apply_exif=False) == ["size-after-orientation", "orientation"]
    save_turned(tmp_path / "upright.jpg", 1)
    assert kinds(tmp_path / "upright.jpg", (40, 60)) == ["wrong-size"]
    [(kind, details), _] = check_header(str(path), (60, 40))
    assert details == " (40x60, annotated 60x40)"
    assert "INPUT.APPLY_EXIF_ORIENTATION False" in kind.fix


def test_what_is_used_in_part(tmp_path, monkeypatch):
    Image.fromarray(np.zeros((40, 60), np.uint16)).save(tmp_path / "deep.png")
    frames = [Image.new("L", (60, 40), value) for value in (0, 200)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert kinds(tmp_path / "deep.png") == ["16-bit"]
    assert kinds(tmp_path / "x.gif") == ["several-frames"]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60 * 40 - 1)
    with pytest.warns(Image.DecompressionBombWarning):
        assert kinds(tmp_path / "deep.png") == ["16-bit", "large-image"]


def test_report_has_one_line_per_kind(tmp_path):
    paths = [tmp_path / f"{index}.jpg" for index in range(200)]
    for path in paths[:3]:
        save_turned(path, 6)
    report = check_image_headers(dataset_of(paths, [(60, 40)] * 200), num_threads=2)
    assert report.num_images == 200
    assert [(f.kind.name, f.count) for f in report.findings] == [
        ("missing-image", 197),
        ("size-before-orientation", 3),
        ("orientation", 3),
    ]
    assert report.findings[0].images == (3, 4, 5, 6, 7)
    assert report.findings[0].format() == (
        f"images that do not exist: 197, for example {tmp_path}/3.jpg. "
        "Name the right folder, or remove them from the annotations."
    )
    assert len(report.errors) == 2


def test_images_can_be_chosen_and_the_check_stopped(tmp_path):
    dataset = dataset_of([tmp_path / str(i) for i in range(300)], [(60, 40)] * 300)
    report = check_image_headers(dataset, indices=[7, 11])
    assert [finding.images for finding in report.findings] == [(7, 11)]
    stopped = check_image_headers(dataset, stop=lambda: True)
    assert stopped.num_images == 0 and not stopped.findings


def test_hostile_names_stay_on_one_line(tmp_path):
    names = [tmp_path / "a\nb\x1b[31m.jpg", tmp_path / os.fsdecode(b"\xff.jpg")]
    text = check_image_headers(dataset_of(names, [(60, 40)] * 2)).findings[0].examples
    assert text == (f"{tmp_path}/a\\nb\\x1b[31m.jpg", f"{tmp_path}/\\xff.jpg")
