"""Open Images: layouts and CSV files as people have them, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from tests.data.formats.builders import (
    COLUMNS,
    assert_same,
    make_dataset,
    open_images_row,
    write_csv,
    write_image,
    write_open_images,
)
from tood.data.dataset import DetectionDataset
from tood.data.formats.base import DataSource
from tood.data.formats.openimages import OpenImagesFormat
from tood.errors import DataError

CAT, DOG = "/m/01yrx", "/m/0bt9lr"
BOX = (0.25, 0.5, 0.5, 1)  # in 64x48: [16, 24, 16, 24]
CAT_BOX = [16, 24, 16, 24]


def read(path: Path | str, split: str = "train", **kwargs) -> DetectionDataset:
    return OpenImagesFormat.read(DataSource(str(path), split=split, **kwargs))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """train/{0a,0b}.jpg, of which 0a has a row, and the descriptions of two classes."""
    for name in ("0a", "0b"):
        write_image(tmp_path / "train" / f"{name}.jpg")
    write_csv(tmp_path / "class-descriptions-boxable.csv", [(DOG, "Dog"), (CAT, "Cat, small")])
    write_rows(tmp_path, [open_images_row("0a", CAT, BOX)])
    return tmp_path


@pytest.mark.parametrize("target", ["..", "/"])
def test_the_images_are_no_folder_above_the_dataset(dataset, target):
    """Links are followed, but not to the whole disk."""
    (dataset / "train").rename(dataset / "images")
    (dataset / "train").symlink_to("images")
    assert len(read(dataset)) == 2
    (dataset / "train").unlink()
    (dataset / "train").symlink_to(target)
    with pytest.raises(DataError, match="has more than the images"):
        read(dataset)


def write_rows(root: Path, rows: list, name: str = "train-annotations-bbox.csv") -> Path:
    return write_csv(root / name, [COLUMNS, *rows])


def test_round_trip(tmp_path):
    splits = {
        "train": make_dataset(tmp_path / "files", seed=1),
        "val": make_dataset(tmp_path / "files", sizes=[(40, 40), (31, 64)], seed=2),
    }
    root = write_open_images(tmp_path / "data", splits)
    for split, expected in splits.items():
        found = read(root, split)
        assert_same(found, expected)
        assert found.is_crowd.any()
        assert found.class_names == expected.class_names
        assert list(found.changes.counts) == [
            "images without a row taken as images without objects"
        ]


def test_box_in_pixels(dataset):
    found = read(dataset)
    assert found.boxes.tolist() == [CAT_BOX]
    assert found.class_names == ["Dog", "Cat, small"] and found.class_ids.tolist() == [1]
    assert found.category_ids == [1, 2]
    assert found.image_ids == ["0a.jpg", "0b.jpg"] and found.offsets.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (open_images_row("0a", CAT, BOX, confidence=0), "rows with confidence 0"),
        (open_images_row("0a", CAT, BOX, confidence="0.0"), "rows with confidence 0"),
        (open_images_row("0c", CAT, BOX), "rows of images that are not there"),
        (open_images_row("0a", "/m/other", BOX), "rows of classes that the class descriptions"),
        (open_images_row("0a", CAT, (0.5, 0.5, 0.5, 1)), "boxes without area dropped"),
        (open_images_row("0a", CAT, ("nan", 0, 1, 1)), "boxes without finite values dropped"),
    ],
)
def test_rows_that_are_left_out(dataset, row, what):
    write_rows(dataset, [open_images_row("0a", CAT, BOX), row])
    found = read(dataset)
    assert found.boxes.tolist() == [CAT_BOX]
    (name,) = [name for name in found.changes.counts if name.startswith(what)]
    assert found.changes.counts[name] == 1 and "line 3" in found.changes.examples[name]
    assert found.changes.lost == (set() if "absent" in name else {name})


def test_groups_are_crowds(dataset):
    rows = [open_images_row("0a", CAT, BOX, group=group) for group in (0, 1, -1)]  # -1: unknown
    write_rows(dataset, rows)
    assert read(dataset).is_crowd.tolist() == [False, True, False]


def test_exchanged_corners(dataset):
    write_rows(dataset, [open_images_row("0a", CAT, (0.5, 1, 0.25, 0.5))])
    found = read(dataset)
    assert found.boxes.tolist() == [CAT_BOX]
    assert found.changes.counts["boxes with exchanged corners sorted"] == 1


def test_orientation_of_the_image_is_applied_to_the_fractions(dataset):
    write_image(dataset / "train" / "0a.jpg", (64, 48), orientation=6)
    assert read(dataset).boxes.tolist() == [[12, 32, 12, 32]]  # in 48x64
    assert read(dataset, apply_exif=False).boxes.tolist() == [CAT_BOX]


def test_few_columns_in_any_order(dataset):
    header = ("YMax", "LabelName", "ImageID", "XMin", "YMin", " XMax", "Extra")
    rows = [header, (1, CAT, "0a", 0.25, 0.5, 0.5, "x"), ()]
    path = write_csv(dataset / "train-annotations-bbox.csv", rows)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read(dataset).boxes.tolist() == [CAT_BOX]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [open_images_row("0a", CAT, (16, 24, 32, 48))],
            "line 2: .* are not fractions of the image",
        ),
        ([open_images_row("0a", CAT, ("a", 0, 1, 1))], "line 2: .* not numbers"),
        ([open_images_row("0a", CAT, BOX)[:5]], "line 2: .* lacks values"),
        ([open_images_row("0c", CAT, BOX)], "none of its rows belongs to an image in .*train"),
        ([], "none of its rows belongs to an image in .*train"),
    ],
)
def test_rows_that_are_refused(dataset, rows, message):
    write_rows(dataset, rows)
    with pytest.raises(DataError, match=message):
        read(dataset)


def test_files_that_are_refused(dataset):
    path = write_csv(
        dataset / "train-annotations-bbox.csv", [("ImageID", "LabelName"), ("0a", CAT)]
    )
    with pytest.raises(DataError, match="lacks the columns XMin, YMin, XMax, YMax"):
        read(dataset)
    path.write_bytes(",".join(COLUMNS).encode() + b"\n\xff,\n")
    with pytest.raises(DataError, match="not a CSV file in UTF-8"):
        read(dataset)
    with pytest.raises(
        DataError, match=r"no file val-annotations-bbox.csv. Available splits: train"
    ):
        read(dataset, "val")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(CAT, "a"), (CAT, "b")], "line 2: the label /m/01yrx occurs twice"),
        ([(CAT,)], "line 1: .* is not a label and a name"),
        ([], "is empty"),
        ([("\r", "x" * 200_000)], "line .* is not CSV"),
    ],
)
def test_class_descriptions_that_are_refused(dataset, rows, message):
    write_csv(dataset / "class-descriptions-boxable.csv", rows)
    with pytest.raises(DataError, match=message):
        read(dataset)


def test_class_descriptions_with_a_header(dataset):
    """Those of version 7 have one."""
    (dataset / "class-descriptions-boxable.csv").unlink()
    rows = [("LabelName", "DisplayName"), (CAT, "Cat")]
    write_csv(dataset / "oidv7-class-descriptions-boxable.csv", rows)
    assert read(dataset).class_names == ["Cat"]


def test_without_class_descriptions_all_splits_give_the_labels(dataset):
    (dataset / "class-descriptions-boxable.csv").unlink()
    rows = [open_images_row("0c", DOG, BOX), open_images_row("0c", CAT, BOX)]
    write_rows(dataset, rows, "oidv6-validation-annotations-bbox.csv")
    write_image(dataset / "validation" / "0c.jpg")
    assert read(dataset).class_names == [CAT, DOG]
    val = read(dataset, "val")
    assert val.class_names == [CAT, DOG] and val.class_ids.tolist() == [1, 0]


def test_one_folder_of_images_for_all_splits(dataset):
    (dataset / "train").rename(dataset / "images")
    found = read(dataset)
    assert [Path(name).name for name in found.file_names] == ["0a.jpg"]
    what = "images without a row left out: other splits share the folder"
    assert found.changes.counts == {what: 1}
    found = read(dataset / "train-annotations-bbox.csv")
    assert found.boxes.tolist() == [CAT_BOX]


def test_layout_of_fiftyone(tmp_path):
    root = tmp_path / "open-images-v7"
    write_image(root / "validation" / "data" / "0a.jpg")
    rows = [open_images_row("0a", CAT, BOX)]
    write_rows(root / "validation" / "labels", rows, "detections.csv")
    write_csv(root / "validation" / "metadata" / "classes.csv", [(DOG, "Dog"), (CAT, "Cat")])
    assert OpenImagesFormat.matches(root)
    found = read(root, "val")
    assert found.boxes.tolist() == [CAT_BOX] and found.class_names == ["Dog", "Cat"]


def test_layout_of_cvat(tmp_path):
    """Paths as ImageIDs: two images of one name."""
    for folder in ("a", "b"):
        write_image(tmp_path / "images" / "default" / folder / "1.jpg")
    rows = [open_images_row("b/1", "cat", BOX), open_images_row("a/1", "dog", BOX)]
    write_rows(tmp_path / "annotations", rows, "default-annotations-bbox.csv")
    write_csv(tmp_path / "annotations" / "class-descriptions.csv", [("cat", "cat"), ("dog", "dog")])
    assert OpenImagesFormat.matches(tmp_path)
    found = read(tmp_path, "default")
    assert found.image_ids == ["a/1.jpg", "b/1.jpg"]
    assert found.class_ids.tolist() == [1, 0]


def test_layout_of_oidv4_toolkit(tmp_path):
    """A folder for each class, so an image may be there twice."""
    for folder in ("Cat", "Dog"):
        write_image(tmp_path / "Dataset" / "train" / folder / "0a.jpg")
    write_rows(tmp_path / "csv_folder", [open_images_row("0a", CAT, BOX)])
    write_csv(tmp_path / "csv_folder" / "class-descriptions-boxable.csv", [(CAT, "Cat")])
    found = read(tmp_path)
    assert len(found) == 1 and found.boxes.tolist() == [CAT_BOX]
    assert found.changes.counts == {"images of one name in several folders used once": 1}


def test_image_folder_of_the_config(dataset):
    write_image(dataset / "elsewhere" / "0a.png")
    found = read(dataset, images=str(dataset / "elsewhere"))
    assert found.file_names == [str(dataset / "elsewhere" / "0a.png")]
    with pytest.raises(DataError, match="no image folder"):
        read(dataset, images=str(dataset / "none"))


def test_images_without_a_row_in_the_folder_of_the_config(dataset):
    folder = dataset / "elsewhere"
    for name in ("0a", "0b", "0c"):
        write_image(folder / f"{name}.png")
    found = read(dataset, images=str(folder))
    assert np.diff(found.offsets).tolist() == [1, 0, 0]
    assert found.changes.counts == {"images without a row taken as images without objects": 2}
    (warning,) = found.changes.warnings
    assert warning.startswith("2 of the 3 images in ") and "another split" in warning
    # An image of another split: the folder has those of all splits.
    write_rows(dataset, [open_images_row("0c", CAT, BOX)], "validation-annotations-bbox.csv")
    found = read(dataset, images=str(folder))
    assert [Path(name).name for name in found.file_names] == ["0a.png"]
    what = "images without a row left out: other splits share the folder"
    assert found.changes.counts == {what: 2}
    assert not found.changes.lost and not found.changes.warnings


def test_no_images(dataset):
    for path in (dataset / "train").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="There are no images in"):
        read(dataset)
    (dataset / "train").rmdir()
    with pytest.raises(DataError, match="has no folder of images"):
        read(dataset)


def test_what_is_no_open_images_dataset(tmp_path):
    assert not OpenImagesFormat.matches(tmp_path)
    with pytest.raises(DataError, match="Available splits: none"):
        read(tmp_path)


def test_boxes_at_the_edges_are_exact(dataset):
    write_rows(dataset, [open_images_row("0a", CAT, (0, 0, 1, 1))])
    assert read(dataset).boxes.tolist() == [[0, 0, 64, 48]]
