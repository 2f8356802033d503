"""YOLO: label files as people have them, and what is refused."""

import os

import pytest

from tests.data.formats.builders import YOLO_BOX, read_yolo, read_yolo_rows, write_image, write_text
from tood.errors import DataError

BOX = YOLO_BOX


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
def test_rows_without_remark(yolo_file, row):
    found = read_yolo_rows(yolo_file, row)
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
        (
            "0 nan 0.5 0.5 0.5\n0 " + BOX,
            "boxes without finite values dropped",
            [[24, 12, 16, 24]],
        ),
    ],
)
def test_rows_that_are_counted(yolo_file, rows, what, boxes):
    found = read_yolo_rows(yolo_file, rows)
    assert found.boxes.tolist() == boxes
    assert found.changes.counts[what] == 1
    if "dropped" not in what or "finite" in what:
        assert "a.txt, line " in found.changes.examples[what]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0 32 24 16 24", "a.txt, line 2: 32 is not a fraction of the image. Divide"),
        (
            f"2 {BOX}",
            r"line 2: there is no class 2. .*data.yaml has 2 classes, numbered 0 to 1",
        ),
        (f"-1 {BOX}", "line 2: there is no class -1"),
        (f"0.5 {BOX}", "line 2: '0.5' is not a class"),
        (f"bird {BOX}", "line 2: 'bird' is not a class"),
        ("0 0.5 0.5 0.5", "line 2 has 4 values"),
        ("0 0.5 0.5 0.5 0.5 0.5 0.5 0.5", "line 2 has 8 values.* kpt_shape"),
        ("0 0.5 0.5 a 0.5", "line 2: .* has a value that is not a number"),
        ("0 0,5 0.5 0,5 0.5", "line 2: .* is not clear"),
    ],
)
def test_rows_that_are_refused(yolo_file, row, message):
    with pytest.raises(DataError, match=message):
        read_yolo_rows(yolo_file, f"0 {BOX}\n{row}\n")


def test_label_file_that_is_no_text(yolo_file):
    with pytest.raises(DataError, match=r"a.txt is not a text file in UTF-8"):
        read_yolo_rows(yolo_file, b"0 0.5 0.5 0.5 0.5 \xff\n")


def test_keypoints_are_told_from_polygons_by_the_yaml_file(yolo_file):
    yolo_file.write_text(yolo_file.read_text() + "kpt_shape: [2, 3]\n")
    found = read_yolo_rows(yolo_file, f"0 {BOX} 0.1 0.1 2 0.9 0.9 2")
    assert found.boxes.tolist() == [[24, 12, 16, 24]]
    assert found.changes.counts["keypoints ignored"] == 1


def test_no_image_has_a_label_file(yolo_file):
    (yolo_file.parent / "labels" / "train" / "a.txt").unlink()
    with pytest.raises(DataError, match=r"none of its 2 images .* should be .*labels/train/a.txt"):
        read_yolo(yolo_file)


def test_label_files_without_an_image(yolo_file):
    write_text(yolo_file.parent / "labels" / "train" / "c.txt", f"0 {BOX}")
    write_text(yolo_file.parent / "labels" / "train" / "classes.txt", "cat\ndog")
    assert read_yolo(yolo_file).changes.counts["label files without an image"] == 1


def test_two_images_of_one_label_file(yolo_file):
    write_image(yolo_file.parent / "images" / "train" / "a.png")
    with pytest.raises(DataError, match=r"a.jpg and .*a.png share the label file"):
        read_yolo(yolo_file)


def test_a_named_pipe_is_not_waited_for(yolo_file):
    label = yolo_file.parent / "labels" / "train" / "a.txt"
    label.unlink()
    os.mkfifo(label)
    with pytest.raises(DataError, match="a.txt cannot be read: it is not a regular file"):
        read_yolo(yolo_file)


@pytest.mark.parametrize("value", ["x" * 5000, "9" * 5000])
def test_long_values_are_cut_in_messages(yolo_file, value):
    for text in (f"{value} {BOX}", f"0 {value}x 1 1 1"):
        with pytest.raises(DataError) as error:
            read_yolo_rows(yolo_file, text)
        assert len(str(error.value)) < 400 + 3 * len(str(yolo_file))
    yolo_file.write_text(f"train: {value}\nnames: [a]\n")
    with pytest.raises(DataError):
        read_yolo(yolo_file)


def test_boxes_at_the_edges_are_exact(yolo_file):
    found = read_yolo_rows(yolo_file, "0 0.5 0.5 1 1\n0 0.015625 0.5 0.03125 1\n")
    assert found.boxes.tolist() == [[0, 0, 64, 48], [0, 0, 2, 48]]
