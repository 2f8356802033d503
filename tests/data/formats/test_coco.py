"""COCO files: what is dropped and counted, what is refused and how, encodings, masks."""

import math

import numpy as np
import pytest
from PIL import Image

from tests.data.coco_files import coco_content, write_coco
from tood.data.formats.coco import read_classes
from tood.errors import DataError


def test_plain_file(read, folder):
    dataset = read(coco_content())
    assert dataset.class_names == ["a", "b"] and dataset.category_ids == [1, 2]
    assert dataset.image_ids == [1, 2, 3] and dataset.widths.tolist() == [80] * 3
    assert dataset.file_names[0] == str(folder / "images" / "1.png")
    assert dataset.boxes[:2].tolist() == [[4, 6, 22, 30], [32, 10.5, 40, 44]]
    assert dataset.class_ids.tolist() == [0, 1] * 3 and not dataset.is_crowd.any()
    assert dataset.areas.tolist() == [660, 1760] * 3
    assert dataset.segmentations is None and dataset.annotated
    assert dataset.changes.format() == "" and not dataset.changes.warnings


def annotation(**fields):
    return lambda content: content["annotations"][1].update(fields)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c.pop("images"), "no list 'images'"),
        (lambda c: c.pop("categories"), "no list 'categories'"),
        (lambda c: c.update(images=None), "no list 'images'"),
        (lambda c: c.update(annotations=None), "'annotations' are not a list"),
        (lambda c: c.update(annotations={"1": {}}), "'annotations' are not a list"),
        (lambda c: c.update(annotations=[7]), r"annotations\[0\] is 7"),
        (lambda c: c.update(images=[[1]]), r"images\[0\] is \[1\]"),
        (lambda c: c.update(images=[]), "has no images"),
        (lambda c: c.update(categories=[]), "has no categories"),
        (lambda c: c["images"][1].pop("id"), r"images\[1\] lacks id"),
        (lambda c: c["images"][1].pop("file_name"), r"images\[1\] lacks file_name"),
        (lambda c: c["images"][1].update(file_name=7), "file_name must be text"),
        (lambda c: c["images"][1].update(file_name=""), "file_name must be text"),
        (lambda c: c["categories"][1].pop("name"), r"categories\[1\] lacks name"),
        (lambda c: c["categories"][1].update(name=["x"]), "which is not text"),
        (lambda c: c["images"][1].update(id=1), "two of its images have the id 1"),
        (lambda c: c["images"][1].update(id=1.0), "two of its images have the id 1"),
        (lambda c: c["categories"][1].update(id=1), "two of its categories have the id 1"),
        (lambda c: c["images"][1].update(id="2"), "some are text, such as 1 and '2'"),
        (lambda c: c["categories"][1].update(id="2"), "some are text, such as 1 and '2'"),
        (lambda c: c["images"][1].update(id=[1]), r"id \[1\]\. Ids must be"),
        (lambda c: c["images"][1].update(id=None), "id None. Ids must be"),
        (lambda c: c["images"][1].update(id=True), "id True. Ids must be"),
        (lambda c: c["images"][1].update(id=1.5), "id 1.5. Ids must be"),
        (lambda c: c["images"][1].update(id=math.nan), "id nan. Ids must be"),
        (annotation(image_id=999), "annotation 2: none of the images has the id 999"),
        (annotation(image_id="1"), "the id '1'; their ids are numbers"),
        (annotation(image_id=[1]), r"none of the images has the id \[1\]"),
        (annotation(image_id=True), "none of the images has the id True"),
        (annotation(category_id=77), "annotation 2: none of the categories has the id 77"),
        (annotation(category_id=None), "none of the categories has the id None"),
        (lambda c: c["annotations"][1].pop("image_id"), "annotation 2: it lacks image_id"),
        (lambda c: c["annotations"][1].pop("category_id"), "annotation 2: it lacks category_id"),
        (annotation(bbox=[1, 2, 3]), r"annotation 2: its bbox \[1, 2, 3\] must be \[x, y"),
        (annotation(bbox=[1, 2, 3, 4, 0.5]), "must be"),
        (annotation(bbox={"x": 1}), "must be"),
        (annotation(bbox="1 2 3 4"), "must be"),
        (annotation(bbox=[[1, 2], [3, 4]]), "must be"),
        (annotation(iscrowd="maybe"), "annotation 2: its iscrowd maybe must be 0 or 1"),
        (annotation(iscrowd=[1]), "its iscrowd"),
        (annotation(ignore={}), "its ignore {} must be 0 or 1"),
        (lambda c: [a.pop("bbox") for a in c["annotations"]], "none of its 6 annotations has a bb"),
        (
            lambda c: [a.update(bbox=[0.1, 0.2, 0.3, 0.5]) for a in c["annotations"]],
            r"fractions of the image, such as annotation 1: \[0.1, 0.2, 0.3, 0.5\]",
        ),
        (lambda c: c["images"][1].update(file_name="gone.png"), "1 images .* gone.png"),
        (lambda c: c["images"][1].update(file_name="x" * 5000), "1 images"),
        (lambda c: c["images"][1].update(file_name="x/" * 5000), "1 images"),
        (lambda c: c["images"][1].update(file_name="\0"), "1 images"),
        (lambda c: c["images"][1].update(file_name="\ud800.png"), "1 images"),
        (lambda c: c["images"][1].update(file_name="old/1.png"), "belongs to another image"),
    ],
)
def test_refused(read, change, message):
    content = coco_content()
    change(content)
    with pytest.raises(DataError, match=message) as caught:
        read(content)
    sentence = str(caught.value)
    assert "annotations.json" in sentence and "\n" not in sentence and len(sentence) < 700
    sentence.encode()  # can be printed


@pytest.mark.parametrize(
    "box, what",
    [
        ([1, 2, None, 4], "boxes without finite values dropped"),
        ([1, 2, math.nan, 4], "boxes without finite values dropped"),
        ([1, 2, math.inf, 4], "boxes without finite values dropped"),
        ([1, 2, "wide", 4], "boxes without finite values dropped"),
        ([True, 2, 3, 4], "boxes without finite values dropped"),
        ([10**400, 2, 3, 4], "boxes without finite values dropped"),
        ([1e19, 2, 3, 4], "boxes without finite values dropped"),
        ([1, 2, 0, 4], "boxes without area dropped"),
        ([9, 9, -3, 4], "boxes without area dropped"),
        ([], "annotations without box dropped"),
        (None, "annotations without box dropped"),
    ],
)
def test_boxes_that_are_dropped(read, box, what):
    content = coco_content()
    content["annotations"][0]["bbox"] = box
    dataset = read(content)
    assert dataset.num_boxes == 5 and dataset.offsets.tolist() == [0, 1, 3, 5]
    assert dataset.boxes[0].tolist() == [32, 10.5, 40, 44]
    assert dict(dataset.changes.counts) == {what: 1}
    assert dataset.changes.examples[what].startswith("annotation 1")


def test_box_from_polygons(read):
    content = coco_content()
    polygons = [[4, 6, 26, 6, 26, 36], [1, 20, 5, 20, 5, 22.5, 1, 22], [9, 9]]
    content["annotations"][0].update(bbox=None, segmentation=polygons)
    dataset = read(content)
    assert dataset.boxes[0].tolist() == [1, 6, 25, 30]
    assert dataset.changes.counts == {"missing boxes taken from the polygons": 1}


@pytest.mark.parametrize(
    "fields, count",
    [({"iscrowd": value}, 2) for value in (1, True, 1.0, "1", "true", 2)]
    + [({"ignore": value}, 2) for value in (1, True, 0.5, "1")],
)
def test_crowds(read, fields, count):
    content = coco_content()
    for entry in content["annotations"][:2]:
        entry.update(fields)
    dataset = read(content)
    assert dataset.is_crowd.tolist() == [True] * count + [False] * 4
    plain = fields.get("iscrowd") == 1 and type(fields["iscrowd"]) is int
    assert sum(dataset.changes.counts.values()) == (0 if plain else count)


def test_everything_is_counted(read):
    content = coco_content()
    for entry in content["annotations"]:
        del entry["area"], entry["iscrowd"], entry["id"]
    content["annotations"][3]["bbox"] = [str(x) for x in content["annotations"][3]["bbox"]]
    content["images"][2].update(width="80", file_name="images\\3.png")
    changes = read(content).changes
    assert dict(changes.counts) == {
        "annotations without id": 6,
        "missing areas set to width * height": 6,
        "missing iscrowd set to 0": 6,
        "boxes of numbers written as text": 1,
        "file names resolved in the image folder": 1,
        "image sizes read from the images": 1,
    }
    assert "annotations[3]: ['32', '10.5', '40', '44']" in changes.format()
    assert "\n" not in changes.format()


def test_sizes_from_the_image_header_follow_the_orientation(read, folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(folder / "images" / "turned.jpg", exif=exif)
    content = coco_content()
    del content["images"][0]["width"]
    content["images"][0]["file_name"] = "turned.jpg"
    content["annotations"] = []
    assert (read(content).widths[0], read(content).heights[0]) == (30, 40)
    stored = read(content, apply_exif=False)
    assert (stored.widths[0], stored.heights[0]) == (40, 30)


def test_unknown_size_of_an_unreadable_image(read, folder):
    (folder / "images" / "2.png").write_bytes(b"no image")
    content = coco_content()
    content["images"][1]["width"] = 0
    with pytest.raises(DataError, match=r"1 images cannot be read.*2\.png"):
        read(content)


def test_boxes_are_sorted_by_image(read):
    content = coco_content()
    content["annotations"].reverse()
    dataset = read(content)
    assert dataset.offsets.tolist() == [0, 2, 4, 6]
    assert dataset.boxes[0].tolist() == [32, 10.5, 40, 44]  # the order of the file


def test_categories_in_the_order_of_their_ids(read):
    content = coco_content()
    content["categories"] = [{"id": 10, "name": "ten"}, {"id": 9, "name": "nine"}]
    for entry in content["annotations"]:
        entry["category_id"] = 10
    assert read(content).class_names == ["nine", "ten"]
    for entry in (*content["categories"], *content["annotations"]):
        key = "id" if "name" in entry else "category_id"
        entry[key] = str(entry[key])
    dataset = read(content)
    assert dataset.category_ids == ["9", "10"] and dataset.class_ids.tolist() == [1] * 6


@pytest.mark.parametrize(
    "category, others, used, dropped",
    [
        ({"name": "things", "supercategory": "none"}, "things", False, True),
        ({"name": "things", "supercategory": "none"}, "things", True, False),
        ({"name": "things", "supercategory": "none"}, "none", False, False),
        ({"name": "_background_"}, None, False, True),
        ({"name": "dog"}, None, False, False),
    ],
)
def test_super_category_0(read, category, others, used, dropped):
    """Roboflow's; but a class may be without boxes in one set, and must not be lost then."""
    content = coco_content()
    for entry in content["categories"]:
        entry["supercategory"] = others
    content["categories"].append({"id": 0, **category})
    content["annotations"][0]["category_id"] = 0 if used else 1
    dataset = read(content)
    assert dataset.class_names == ([] if dropped else [category["name"]]) + ["a", "b"]
    assert dataset.class_ids[1] == (1 if dropped else 2)
    assert dataset.changes.counts == ({"unused super-category 0 dropped": 1} if dropped else {})


def test_test_dev_has_no_annotations(read):
    content = coco_content()
    del content["annotations"]
    dataset = read(content)
    assert not dataset.annotated and dataset.num_boxes == 0 and len(dataset) == 3


def test_read_classes_needs_no_images(tmp_path):
    content = coco_content()
    content["categories"][0]["name"] = 7
    assert read_classes(write_coco(tmp_path, content)) == (["7", "b"], [1, 2])


def test_parsing_in_one_pass_and_by_place_agree(read):
    """The second way is taken where something that is not an annotation looks like one."""
    content = coco_content()
    plain = read(content)
    content["annotations"][4]["file_name"] = "x"
    other = read(content)
    for field in ("boxes", "class_ids", "is_crowd", "areas", "offsets"):
        np.testing.assert_array_equal(getattr(plain, field), getattr(other, field))
