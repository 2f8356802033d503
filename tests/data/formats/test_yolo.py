"""YOLO: layouts as people have them, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.data.formats.builders import (
    YOLO_BOX,
    assert_same,
    make_dataset,
    read_yolo,
    read_yolo_rows,
    write_image,
    write_text,
    write_yolo,
)
from tood.data.formats.yolo import YoloFormat
from tood.errors import DataError

BOX = YOLO_BOX


def test_round_trip(tmp_path):
    splits = {
        "train": make_dataset(tmp_path / "files", seed=1),
        "val": make_dataset(tmp_path / "files", sizes=[(40, 40), (31, 64)], seed=2),
    }
    path = write_yolo(tmp_path / "data", splits)
    for split, expected in splits.items():
        found = read_yolo(path, split)
        assert_same(found, expected, crowds=False)
        assert not found.is_crowd.any()
        assert not found.changes.counts and not found.changes.warnings
    assert_same(read_yolo(tmp_path / "data", "val"), splits["val"], crowds=False)


def test_box_in_pixels(yolo_file):
    found = read_yolo(yolo_file)
    assert found.boxes.tolist() == [[24, 12, 16, 24]]
    assert found.class_names == ["cat", "dog"] and found.category_ids == [0, 1]
    assert [Path(name).name for name in found.file_names] == ["a.jpg", "b.jpg"]
    assert found.image_ids == ["images/train/a.jpg", "images/train/b.jpg"]
    assert found.offsets.tolist() == [0, 1, 1]
    assert list(found.changes.counts) == [
        "images without a label file taken as images without objects"
    ]
    assert read_yolo(yolo_file).boxes.dtype == np.float64


def test_orientation_of_the_image_is_applied_to_the_fractions(yolo_file):
    write_image(yolo_file.parent / "images" / "train" / "a.jpg", (64, 48), orientation=6)
    assert read_yolo(yolo_file).boxes.tolist() == [[18, 16, 12, 32]]  # in 48x64
    assert read_yolo(yolo_file, apply_exif=False).boxes.tolist() == [[24, 12, 16, 24]]


@pytest.mark.parametrize(
    "names",
    [
        "names: [person, no, '3', null, 1e3]",
        "names:\n  0: person\n  1: no\n  2: '3'\n  3: null\n  4: 1e3",
        "names: {4: 1e3, 0: person, 1: no, 2: 3, 3: null}\nnc: 5",
        "nc: 5\nnames:\n- person\n- no\n- 3\n- null\n- 1e3",
    ],
)
def test_names_are_text_as_written(yolo_file, names):
    yolo_file.write_text(f"train: images/train\n{names}\n")
    assert read_yolo(yolo_file).class_names == ["person", "no", "3", "null", "1e3"]


def test_numbers_of_classes_may_have_gaps(yolo_file):
    yolo_file.write_text("train: images/train\nnames: {3: cat, 7: dog}\n")
    found = read_yolo_rows(yolo_file, f"7 {BOX}")
    assert found.class_ids.tolist() == [1] and found.category_ids == [3, 7]
    with pytest.raises(DataError, match="there is no class 4"):
        read_yolo_rows(yolo_file, f"4 {BOX}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: x\nnames: [a]", "train images 'x' do not exist"),
        ("val: images/train\nnames: [a]", "no split 'train'. Available: val"),
        ("train: images/train\nnc: 3\nnames: [a, b]", "'nc' is 3, but 'names' has 2"),
        ("train: images/train\n", "no class names"),
        ("train: images/train\nnames: [[a], b]", "'names' must be a list of texts"),
        ("train: images/train\nnames: {a: b}", "keys of 'names' must be class numbers"),
        ("train: images/train\nnames: {0: a, 0: b}", "the key 0 occurs twice"),
        ("train: https://x.org/a.zip\nnames: [a]", "is an address. Download"),
        ("train: {a: b}\nnames: [a]", "'train' must be a folder"),
        ("- a", "does not describe a YOLO dataset"),
        ("train: [", "is not valid YAML"),
        ("train: images/train\nnames: [a]\nkpt_shape: 3", "'kpt_shape' must be two numbers"),
    ],
)
def test_yaml_files_that_are_refused(yolo_file, text, message):
    yolo_file.write_text(text)
    with pytest.raises(DataError, match=message):
        read_yolo(yolo_file)


def test_tags_in_the_yaml_file_run_nothing(yolo_file):
    bomb = "!!python/object/apply:os.mkdir [%s]" % (yolo_file.parent / "made")
    yolo_file.write_text(f"train: images/train\nnames: [a, b]\nx: {bomb}\n")
    read_yolo(yolo_file)
    assert not (yolo_file.parent / "made").exists()


@pytest.mark.parametrize(
    "entry",
    [
        "train: train/images",
        "train: ../train/images",  # Roboflow's, wrong for this folder
        "train: [train/images]",
        "path: train\ntrain: images",
        "path: {root}\ntrain: train/images",
        "path: ../data\ntrain: train/images",
        "path: coco8\ntrain: train/images",  # below Ultralytics' folder of datasets
        "path: /content/drive/data\ntrain: train/images",
        "train: /content/drive/train/images",
        "train: C:\\Users\\me\\train\\images",
        "train: train.txt",
        "train: train",
    ],
)
def test_places_of_images(tmp_path, entry):
    root = tmp_path / "data"
    write_image(root / "train" / "images" / "sub" / "a.JPG")
    write_image(root / "train" / "images" / ".hidden.jpg")
    write_text(root / "train" / "images" / "notes.md", "no image")
    write_text(root / "train" / "labels" / "sub" / "a.txt", f"1 {BOX}")
    write_text(root / "train.txt", "./train/images/sub/a.JPG\n")
    path = write_text(root / "data.yaml", entry.format(root=root) + "\nnames: [cat, dog]\n")
    found = read_yolo(path)
    assert found.file_names == [str(root / "train" / "images" / "sub" / "a.JPG")]
    assert found.class_ids.tolist() == [1]


def test_a_folder_of_another_place_needs_two_names_to_be_found(tmp_path):
    """``images`` alone could hold all splits."""
    write_image(tmp_path / "images" / "a.jpg")
    path = write_text(tmp_path / "data.yaml", "train: /content/train/images\nnames: [cat]\n")
    with pytest.raises(DataError, match="do not exist"):
        read_yolo(path)


def test_val_may_be_called_valid(tmp_path):
    for split in ("train", "valid", "test"):
        write_image(tmp_path / split / "images" / f"{split}.jpg")
        write_text(tmp_path / split / "labels" / f"{split}.txt", f"0 {BOX}")
    entries = "train: ../train/images\nvalid: ../valid/images\ntest: ../test/images\n"
    path = write_text(tmp_path / "data.yaml", f"{entries}nc: 1\nnames: ['a']\n")
    assert Path(read_yolo(path, "val").file_names[0]).name == "valid.jpg"
    assert Path(read_yolo(path, "test").file_names[0]).name == "test.jpg"
    assert not read_yolo(path).changes.warnings


def test_train_and_val_of_the_same_images_are_warned_about(yolo_file):
    yolo_file.write_text(yolo_file.read_text() + "val: images/../images/train\n")
    for split in ("train", "val"):
        (warning,) = read_yolo(yolo_file, split).changes.warnings
        assert "both have" in warning


def test_missing_images_of_a_list(yolo_file):
    write_text(yolo_file.parent / "list.txt", "images/train/a.jpg\nimages/train/c.jpg\n")
    yolo_file.write_text("train: list.txt\nnames: [cat]\n")
    with pytest.raises(DataError, match=r"list.txt: 1 images do not exist, for example .*c.jpg"):
        read_yolo(yolo_file)


def test_images_that_are_listed_twice(yolo_file):
    yolo_file.write_text("train: [images/train, images]\nnames: [cat]\n")
    found = read_yolo(yolo_file)
    assert len(found) == 2
    assert found.changes.counts["images that are named twice used once"] == 2


def test_images_that_cannot_be_read(yolo_file):
    write_text(yolo_file.parent / "images" / "train" / "b.jpg", "no image")
    with pytest.raises(DataError, match=r"1 images cannot be read.*b.jpg"):
        read_yolo(yolo_file)


def test_numbers_as_image_ids(yolo_file):
    folder = yolo_file.parent / "images" / "train"
    (folder / "a.jpg").rename(folder / "000012.jpg")
    (folder / "b.jpg").rename(folder / "000009.jpg")
    (yolo_file.parent / "labels" / "train" / "a.txt").rename(
        yolo_file.parent / "labels" / "train" / "000012.txt"
    )
    assert read_yolo(yolo_file).image_ids == [9, 12]


def test_label_studio(tmp_path):
    """classes.txt, images/ and labels/, without splits."""
    write_image(tmp_path / "images" / "a.jpg")
    write_text(tmp_path / "labels" / "a.txt", f"1 {BOX}")
    write_text(tmp_path / "classes.txt", "cat\ndog\n")
    write_text(tmp_path / "notes.json", json.dumps({}))
    assert YoloFormat.matches(tmp_path)
    found = read_yolo(tmp_path, "val")
    assert found.class_names == ["cat", "dog"] and found.class_ids.tolist() == [1]
    assert "no splits" in found.changes.warnings[0]


def test_supervision(tmp_path):
    """as_yolo of supervision 0.31: the YAML file has the classes only."""
    write_image(tmp_path / "images" / "im 0.jpg", (80, 64))
    write_text(tmp_path / "labels" / "im 0.txt", "0 0.18750 0.32812 0.27500 0.46875")
    found = read_yolo(write_text(tmp_path / "data.yaml", "nc: 2\nnames: [a, b]\n"))
    # The label has five decimals of the box [4, 6, 22, 30].
    np.testing.assert_allclose(found.boxes, [[4, 6, 22, 30]], rtol=0, atol=1e-3)
    assert found.class_names == ["a", "b"] and "no splits" in found.changes.warnings[0]
    for split in ("train", "valid"):
        write_image(tmp_path / split / "images" / f"{split}.jpg")
        write_text(tmp_path / split / "labels" / f"{split}.txt", f"0 {BOX}")
    found = read_yolo(tmp_path, "val")
    assert [Path(name).name for name in found.file_names] == ["valid.jpg"]
    assert not found.changes.warnings


def test_label_img(tmp_path):
    """Labels and classes.txt next to the images."""
    write_image(tmp_path / "a.jpg")
    write_text(tmp_path / "a.txt", f"0 {BOX}")
    write_text(tmp_path / "classes.txt", "cat\n")
    assert read_yolo(tmp_path).boxes.tolist() == [[24, 12, 16, 24]]


def test_cvat_darknet(tmp_path):
    """obj.data, whose paths start with a folder that the archive does not have."""
    write_image(tmp_path / "obj_train_data" / "a.jpg")
    write_text(tmp_path / "obj_train_data" / "a.txt", f"0 {BOX}")
    write_text(tmp_path / "train.txt", "data/obj_train_data/a.jpg\n")
    write_text(tmp_path / "obj.names", "cat\ndog\n")
    write_text(
        tmp_path / "obj.data", "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n"
    )
    assert YoloFormat.matches(tmp_path)
    found = read_yolo(tmp_path)
    assert found.class_names == ["cat", "dog"]
    assert found.boxes.tolist() == [[24, 12, 16, 24]]
    assert found.changes.counts["paths of another place found in the dataset's folder"] == 2


def test_darknet_of_roboflow(tmp_path):
    """A list of classes in the folder of each split, between the labels."""
    for split in ("train", "valid"):
        write_image(tmp_path / split / f"{split}.jpg")
        write_text(tmp_path / split / f"{split}.txt", f"1 {BOX}")
        write_text(tmp_path / split / "_darknet.labels", "cat\ndog\n")
    assert YoloFormat.matches(tmp_path)
    found = read_yolo(tmp_path, "val")
    assert found.class_names == ["cat", "dog"] and found.class_ids.tolist() == [1]
    assert read_yolo(tmp_path, "valid").image_ids == ["valid/valid.jpg"]
    assert not found.changes.counts and not found.changes.warnings


def test_several_yaml_files(tmp_path):
    for name in ("a.yaml", "b.yaml"):
        write_text(tmp_path / name, "train: x\nnames: [a]\n")
    with pytest.raises(DataError, match=r"several YOLO datasets: a.yaml, b.yaml"):
        read_yolo(tmp_path)
    write_text(tmp_path / "b.yaml", "model: tood\n")
    assert YoloFormat.matches(tmp_path)


def test_what_is_no_yolo_dataset(tmp_path):
    assert not YoloFormat.matches(tmp_path)
    write_text(tmp_path / "classes.txt", "cat")
    assert not YoloFormat.matches(tmp_path)
    assert not YoloFormat.matches(write_text(tmp_path / "x.json", "{}"))
    for path in (tmp_path / "x.json", tmp_path / "none"):
        with pytest.raises(DataError, match="no YOLO dataset"):
            read_yolo(path)


def test_a_link_to_a_folder_above_ends(yolo_file):
    (yolo_file.parent / "images" / "train" / "loop").symlink_to(yolo_file.parent / "images")
    assert len(read_yolo(yolo_file)) == 2
