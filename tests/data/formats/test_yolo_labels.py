"""YOLO: label files as people have them, and what is refused."""

import os
from pathlib import Path

import pytest

from tests.data.formats.builders import write_image
from tood.data.dataset import DetectionDataset
from tood.data.formats.base import DataSource
from tood.data.formats.yolo import YoloFormat
from tood.errors import DataError

BOX = "0.5 0.5 0.25 0.5"  # in 64x48: [24, 12, 16, 24]


def read(path: Path | str, split: str = "train", **kwargs) -> DetectionDataset:
    return YoloFormat.read(DataSource(str(path), split=split, **kwargs))


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """data.yaml with two classes; images/train/{a,b}.jpg, of which a has a label."""
    for name in ("a", "b"):
        write_image(tmp_path / "images" / "train" / f"{name}.jpg")
    write(tmp_path / "labels" / "train" / "a.txt", f"0 {BOX}\n")
    return write(tmp_path / "data.yaml", "train: images/train\nnames: [cat, dog]\n")


def read_rows(dataset: Path, text: str | bytes) -> DetectionDataset:
    label = dataset.parent / "labels" / "train" / "a.txt"
    label.write_bytes(text.encode() if isinstance(text, str) else text)
    return read(dataset)


@pytest.mark.parametrize(
    "row",
    [
        f"0 {BOX}   \r\n\r\n",
        f"\ufeff0 {BOX}",
        f"0.0 {BOX}",
        "0\t5e-1 5.0E-1 .25 0.5",
        "0,0.5,0.5,0.25,0.5",
        "0, 0.5, 0.5, 0.25, 0.5",
        f"0 {BOX}".encode("utf-16"),
    ],
)
def test_rows_without_remark(dataset, row):
    found = read_rows(dataset, row)
    assert found.boxes.tolist() == [[24, 12, 16, 24]] and found.class_ids.tolist() == [0]
    assert len(found.changes.counts) == 1  # the image without a label file


@pytest.mark.parametrize(
    ("rows", "what", "boxes"),
    [
        ("0 0,5 0,5 0,25 0,5", "rows with decimal commas", [[24, 12, 16, 24]]),
        (f"cat {BOX}", "class names instead of numbers", [[24, 12, 16, 24]]),
        (f"0 {BOX} 0.93", "confidences in a sixth column ignored", [[24, 12, 16, 24]]),
        (
            "0 0.5 0.25 0.75 0.5 0.625 0.75",
            "polygons replaced by their boxes",
            [[32, 12, 16, 24]],
        ),
        (
            "0 0.5 0.25 0.75 0.25 0.75 0.75 0.5 0.75",
            "polygons replaced by their boxes",
            [[32, 12, 16, 24]],
        ),
        (f"0 {BOX}\n0 {BOX}", "rows that occur twice kept", [[24, 12, 16, 24]] * 2),
        ("0 0.5 0.5 1.0625 1", "rows with values outside of 0 to 1 kept", [[-2, 0, 68, 48]]),
        ("0 0.5 0.5 0 0.5\n0 " + BOX, "boxes without area dropped", [[24, 12, 16, 24]]),
        ("0 nan 0.5 0.5 0.5\n0 " + BOX, "boxes without finite values dropped", [[24, 12, 16, 24]]),
    ],
)
def test_rows_that_are_counted(dataset, rows, what, boxes):
    found = read_rows(dataset, rows)
    assert found.boxes.tolist() == boxes
    assert found.changes.counts[what] == 1
    if "dropped" not in what or "finite" in what:
        assert "a.txt, line " in found.changes.examples[what]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0 32 24 16 24", "a.txt, line 2: 32 is not a fraction of the image. Divide"),
        (f"2 {BOX}", r"line 2: there is no class 2. .*data.yaml has 2 classes, numbered 0 to 1"),
        (f"-1 {BOX}", "line 2: there is no class -1"),
        (f"0.5 {BOX}", "line 2: '0.5' is not a class"),
        (f"bird {BOX}", "line 2: 'bird' is not a class"),
        ("0 0.5 0.5 0.5", "line 2 has 4 values"),
        ("0 0.5 0.5 0.5 0.5 0.5 0.5 0.5", "line 2 has 8 values.* kpt_shape"),
        ("0 0.5 0.5 a 0.5", "line 2: .* has a value that is not a number"),
        ("0 0,5 0.5 0,5 0.5", "line 2: .* is not clear"),
    ],
)
def test_rows_that_are_refused(dataset, row, message):
    with pytest.raises(DataError, match=message):
        read_rows(dataset, f"0 {BOX}\n{row}\n")


def test_label_file_that_is_no_text(dataset):
    with pytest.raises(DataError, match=r"a.txt is not a text file in UTF-8"):
        read_rows(dataset, b"0 0.5 0.5 0.5 0.5 \xff\n")


def test_keypoints_are_told_from_polygons_by_the_yaml_file(dataset):
    dataset.write_text(dataset.read_text() + "kpt_shape: [2, 3]\n")
    found = read_rows(dataset, f"0 {BOX} 0.1 0.1 2 0.9 0.9 2")
    assert found.boxes.tolist() == [[24, 12, 16, 24]]
    assert found.changes.counts["keypoints ignored"] == 1


def test_no_image_has_a_label_file(dataset):
    (dataset.parent / "labels" / "train" / "a.txt").unlink()
    with pytest.raises(DataError, match=r"none of its 2 images .* should be .*labels/train/a.txt"):
        read(dataset)


def test_label_files_without_an_image(dataset):
    write(dataset.parent / "labels" / "train" / "c.txt", f"0 {BOX}")
    write(dataset.parent / "labels" / "train" / "classes.txt", "cat\ndog")
    assert read(dataset).changes.counts["label files without an image"] == 1


def test_two_images_of_one_label_file(dataset):
    write_image(dataset.parent / "images" / "train" / "a.png")
    with pytest.raises(DataError, match=r"a.jpg and .*a.png share the label file"):
        read(dataset)


def test_a_named_pipe_is_not_waited_for(dataset):
    label = dataset.parent / "labels" / "train" / "a.txt"
    label.unlink()
    os.mkfifo(label)
    with pytest.raises(DataError, match="a.txt cannot be read: it is not a regular file"):
        read(dataset)


@pytest.mark.parametrize("value", ["x" * 5000, "9" * 5000])
def test_long_values_are_cut_in_messages(dataset, value):
    for text in (f"{value} {BOX}", f"0 {value}x 1 1 1"):
        with pytest.raises(DataError) as error:
            read_rows(dataset, text)
        assert len(str(error.value)) < 400 + 3 * len(str(dataset))
    dataset.write_text(f"train: {value}\nnames: [a]\n")
    with pytest.raises(DataError):
        read(dataset)


def test_boxes_at_the_edges_are_exact(dataset):
    found = read_rows(dataset, "0 0.5 0.5 1 1\n0 0.015625 0.5 0.03125 1\n")
    assert found.boxes.tolist() == [[0, 0, 64, 48], [0, 0, 2, 48]]
