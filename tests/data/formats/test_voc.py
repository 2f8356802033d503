"""Pascal VOC: layouts as people have them, and what is refused."""

import pytest

from tests.data.formats.builders import (
    VOC_CAT,
    VOC_CAT_BOX,
    assert_same,
    make_dataset,
    read_voc,
    read_voc_xml,
    voc_xml,
    write_image,
    write_text,
    write_voc,
)
from tood.data.formats.voc import VocFormat
from tood.errors import DataError

CAT, CAT_BOX = VOC_CAT, VOC_CAT_BOX


@pytest.mark.parametrize("whole", [True, False])
def test_round_trip(tmp_path, whole):
    splits = {
        "train": make_dataset(tmp_path / "files", seed=1, whole=whole),
        "val": make_dataset(tmp_path / "files", [(40, 40), (31, 64)], seed=2, whole=whole),
    }
    root = write_voc(tmp_path / "data", splits)
    for split, expected in splits.items():
        found = read_voc(root, split)
        assert found.class_names == ["car, red", "no", "person"]
        assert_same(found, expected)
        assert found.is_crowd.any() and not found.changes.warnings
        changed = ["objects with coordinates that count from 0"]
        assert list(found.changes.counts) == ([] if whole else changed)


def test_coordinates_that_count_from_0(tmp_path):
    """Values below 1 in any split change the meaning of all of them."""
    for split, corners in (("train", (11, 21, 30, 40)), ("val", (0, 0.5, 64, 48))):
        write_image(tmp_path / split / f"{split}.jpg")
        write_text(tmp_path / split / f"{split}.xml", voc_xml([("cat", corners)]))
    assert read_voc(tmp_path, "val").boxes.tolist() == [[0, 0.5, 64, 47.5]]
    train = read_voc(tmp_path, "train")
    assert train.boxes.tolist() == [[11, 21, 19, 19]]
    assert train.changes.counts["objects with coordinates that count from 0"] == 1


@pytest.mark.parametrize("name", ["a", "b.png", "C:\\images\\b.jpg", ""])
def test_the_name_in_the_file_matters_only_if_no_image_has_the_files_own(flat, name):
    assert read_voc_xml(flat, voc_xml([CAT], file_name=name)).file_names == [str(flat / "a.jpg")]


def test_image_found_by_the_name_in_the_file(flat):
    (flat / "a.jpg").rename(flat / "photo.v2.JPG")
    for name in ("photo.v2.jpg", "photo.v2", "C:\\x\\photo.v2.png"):
        found = read_voc_xml(flat, voc_xml([CAT], file_name=name))
        assert found.file_names == [str(flat / "photo.v2.JPG")]
        assert found.changes.counts == {"images found by the name in the file": 1}


def test_classes_are_those_of_all_splits(tmp_path):
    for split, name in (("train", "dog"), ("valid", "cat"), ("test", "bird")):
        write_image(tmp_path / split / f"{split}.jpg")
        write_text(tmp_path / split / f"{split}.xml", voc_xml([(name, CAT[1])]))
    for split, index in (("train", 2), ("val", 1), ("test", 0)):
        found = read_voc(tmp_path, split)
        assert found.class_names == ["bird", "cat", "dog"]
        assert found.class_ids.tolist() == [index]
        assert len(found) == 1 and not found.changes.warnings


def test_list_of_classes(flat):
    write_text(flat / "classes.txt", "dog\ncat\n")
    assert read_voc(flat).class_names == ["dog", "cat"]
    write_text(flat / "classes.txt", "dog\n")
    with pytest.raises(DataError, match=r"a.xml: the class 'cat' is not in the list"):
        read_voc(flat)
    write_text(flat / "classes.txt", "cat\ncat\n")
    with pytest.raises(DataError, match="the class 'cat' twice"):
        read_voc(flat)


def test_label_map_of_cvat(flat):
    lines = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ndog:1,2,3::\ncat:4,5,6::\n"
    write_text(flat / "labelmap.txt", lines)
    assert read_voc(flat).class_names == ["dog", "cat"]
    write_text(flat / "labelmap.txt", f"{lines}dog:7,8,9::\n")
    with pytest.raises(DataError, match=r"labelmap.txt has the class 'dog' twice"):
        read_voc(flat)


def test_images_without_an_annotation_are_left_out(flat):
    """labelImg writes no file for an image that has not been looked at."""
    write_image(flat / "b.jpg")
    found = read_voc(flat)
    assert len(found) == 1 and "no splits" in found.changes.warnings[0]
    assert found.changes.counts == {"images without an annotation file left out": 1}
    assert found.changes.lost == {"images without an annotation file left out"}


def test_annotations_without_objects_are_images_without_objects(flat):
    write_image(flat / "b.jpg")
    write_text(flat / "b.xml", voc_xml([]))
    assert read_voc(flat).offsets.tolist() == [0, 1, 1]


def test_images_that_are_missing(flat):
    (flat / "a.jpg").unlink()
    with pytest.raises(DataError, match=r"1 annotation files have no image, for example .*a.xml"):
        read_voc(flat)


def test_two_annotations_of_one_image(flat):
    write_text(flat / "b.xml", voc_xml([CAT], file_name="a.jpg"))
    with pytest.raises(DataError, match=r"a.xml and .*b.xml both annotate"):
        read_voc(flat)


def test_image_folder_of_the_config(flat):
    write_image(flat / "elsewhere" / "a.png")
    found = read_voc(flat, images=str(flat / "elsewhere"))
    assert found.file_names == [str(flat / "elsewhere" / "a.png")]


@pytest.mark.parametrize("line", ["a b", "a b.jpg", '"a b"', "JPEGImages/a b.jpg", "a b  1"])
def test_lines_of_image_sets(tmp_path, line):
    write_image(tmp_path / "JPEGImages" / "a b.jpg")
    write_text(tmp_path / "Annotations" / "a b.xml", voc_xml([CAT]))
    write_text(tmp_path / "ImageSets" / "Main" / "train.txt", f"{line}\r\n\n")
    write_text(tmp_path / "ImageSets" / "Main" / "cat_train.txt", "a b -1\n")
    assert VocFormat.matches(tmp_path)
    assert read_voc(tmp_path).boxes.tolist() == [CAT_BOX]
    assert read_voc(tmp_path.parent if tmp_path.parent.name == "VOCdevkit" else tmp_path)
    with pytest.raises(DataError, match=r"no list val.txt. Available: train. Choose"):
        read_voc(tmp_path, "val")


def test_image_sets_name_files_that_are_missing(tmp_path):
    write_text(tmp_path / "Annotations" / "a.xml", voc_xml([CAT]))
    write_text(tmp_path / "ImageSets" / "Main" / "train.txt", "a\nb\n")
    with pytest.raises(DataError, match=r"train.txt: 1 images have no XML file .* example 'b'"):
        read_voc(tmp_path)


def test_folder_above_the_dataset(tmp_path):
    root = tmp_path / "VOCdevkit"
    write_image(root / "VOC2007" / "JPEGImages" / "a.jpg")
    write_text(root / "VOC2007" / "Annotations" / "a.xml", voc_xml([CAT]))
    write_text(root / "VOC2007" / "ImageSets" / "Main" / "trainval.txt", "a")
    assert VocFormat.matches(root)
    assert read_voc(root, "trainval").boxes.tolist() == [CAT_BOX]
    write_text(root / "VOC2012" / "Annotations" / "a.xml", voc_xml([CAT]))
    with pytest.raises(DataError, match="several datasets: VOC2007, VOC2012"):
        read_voc(root, "trainval")


def test_splits_that_do_not_exist(tmp_path):
    write_text(tmp_path / "train" / "Annotations" / "a.xml", voc_xml([CAT]))
    assert VocFormat.matches(tmp_path)
    with pytest.raises(DataError, match="no split 'val'. Available: train"):
        read_voc(tmp_path, "val")


def test_what_is_no_pascal_voc_dataset(tmp_path):
    assert not VocFormat.matches(tmp_path)
    with pytest.raises(DataError, match="There are no XML files"):
        read_voc(tmp_path)
    assert not VocFormat.matches(write_text(tmp_path / "x.json", "{}"))
    with pytest.raises(DataError, match="is not a folder"):
        read_voc(tmp_path / "x.json")
