"""Checks of annotations: each problem is found once, with its count and an example."""

import numpy as np
import pytest

from tests.data.builders import make_dataset
from tood.data.box_checks import check_annotations, same_boxes
from tood.data.checking import join_sets

GOOD = [(0, 0, 10, 10, 50, 50), (0, 1, 100, 100, 50, 50), (0, 2, 200, 100, 50, 50)]


def findings(dataset) -> dict[str, tuple[int, tuple[str, ...]]]:
    return {f.kind.name: (f.count, f.examples) for f in check_annotations(dataset)}


def test_good_dataset_has_no_findings():
    assert findings(make_dataset(GOOD)) == {}


def test_boxes_that_leave_their_image():
    boxes = [
        *GOOD,
        (0, 0, -0.5, 10, 50, 50),  # rounding
        (0, 0, 600, 10, 40.9, 50),  # rounding
        (0, 0, -2, 10, 50, 50),
        (0, 0, 600, 10, 42, 50),
        (0, 1, 640, 10, 50, 50),  # outside: touches the edge
        (0, 1, 10, 10, 0.5, 50),  # below 1 px, nothing else
        (0, 1, 650, 10, 0.5, 50),  # both: outside, which evaluation ignores
    ]
    found = findings(make_dataset(boxes))
    found.pop("suspicious", None)
    assert {name: count for name, (count, _) in found.items()} == {
        "boxes-beyond": 2,
        "boxes-outside": 2,
        "small-boxes": 1,
    }
    assert found["boxes-outside"][1][0] == "b [640, 10, 50, 50] in 0.jpg (640x480)"


def test_what_reading_dropped_is_reported():
    found = findings(make_dataset([*GOOD, (0, 0, 5, 5, 0, 5), (0, 0, np.nan, 5, 5, 5)]))
    assert found["dropped-in-reading"][0] == 1
    kinds = [f.kind for f in check_annotations(make_dataset([*GOOD, (0, 0, 5, 5, 0, 5)]))]
    assert [(kind.severity, kind.what) for kind in kinds] == [
        ("warning", "boxes without area dropped")
    ]


def test_what_is_lost_is_a_warning_whatever_it_is_called():
    dataset = make_dataset(GOOD)
    dataset.changes.add("rows of images that are not there left out", "line 3", lost=True)
    dataset.changes.add("unused super-category 0 dropped", "'cells'")
    joined = join_sets([dataset, make_dataset(GOOD)])
    for changed in (dataset, joined):
        kinds = [f.kind for f in check_annotations(changed)][:2]
        assert [(kind.severity, kind.name) for kind in kinds] == [
            ("warning", "dropped-in-reading"),
            ("note", "changed-in-reading"),
        ]


def test_repeated_boxes_and_two_classes():
    boxes = [
        (0, 0, 10, 10, 100, 100),
        (0, 0, 10, 10, 100, 100),  # the same
        (0, 1, 10.2, 10, 100, 100),  # IoU 0.996 with both, another class
        (0, 0, 11, 11, 100, 100),  # IoU 0.961
        (1, 0, 10, 10, 100, 100),  # another image
        (0, 2, 300, 300, 20, 20),
    ]
    dataset = make_dataset(boxes, num_images=2)
    first, second = same_boxes(dataset)
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 2)]
    found = findings(dataset)
    assert found["repeated-boxes"][0] == 1
    assert found["boxes-with-two-classes"] == (
        1,
        ("b [10.2, 10, 100, 100] in 0.jpg, also a",),
    )


def test_same_boxes_equals_comparing_all_pairs():
    rng = np.random.default_rng(0)
    boxes = rng.uniform(1, 30, (60, 4)).repeat(3, axis=0) * rng.uniform(0.997, 1.003, (180, 4))
    images = rng.integers(0, 4, 180)
    dataset = make_dataset(
        [(image, 0, *box) for image, box in zip(images, boxes, strict=True)], num_images=4
    )
    low, high = dataset.boxes[:, :2], dataset.boxes[:, :2] + dataset.boxes[:, 2:]
    sides = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
    common = sides.clip(min=0).prod(2)
    areas = dataset.boxes[:, 2:].prod(1)
    iou = common / (areas[:, None] + areas - common)
    index = dataset.image_index
    same = (iou > 0.99) & (index[:, None] == index)
    expected = {(int(a), int(b)) for a, b in zip(*np.nonzero(same), strict=True) if a < b}
    assert len(expected) > 10
    first, second = same_boxes(dataset)
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == expected


def test_a_box_inside_of_another_can_repeat_it():
    boxes = [(0, 0, 10, 10, 100, 100), (0, 0, 10.9, 10, 99.1, 100)]  # IoU 0.991
    assert [rows.tolist() for rows in same_boxes(make_dataset(boxes))] == [[0], [1]]


def test_crowds_repeat_nothing_and_are_no_objects():
    boxes = [(0, 0, 10, 10, 50, 50), (0, 0, 10, 10, 50, 50)]
    assert "repeated-boxes" not in findings(make_dataset(boxes, is_crowd=[False, True]))
    assert list(findings(make_dataset(boxes, is_crowd=[True, True]))) == ["only-crowds"]


def test_counts_of_images_and_classes():
    found = findings(make_dataset(GOOD[:1], num_images=3, file_names=["x.jpg", "y.jpg", "x.jpg"]))
    assert found["classes-without-boxes"] == (2, ("b", "c"))
    assert found["images-without-boxes"] == (2, ("y.jpg", "x.jpg"))
    assert found["repeated-images"] == (1, ("x.jpg",))
    assert findings(make_dataset([]))["no-boxes"] == (1, ("set.json",))
    assert findings(make_dataset(GOOD, size=(640, 31)))["small-images"] == (1, ("0.jpg (640x31)",))


@pytest.mark.parametrize("name", ["<b>\n", "\x1b[2J"])
def test_names_stay_on_one_line(name):
    dataset = make_dataset([(0, 0, 900, 1, 5, 5), *GOOD], class_names=[name, "b", "c"])
    [example] = findings(dataset)["boxes-outside"][1]
    assert example.isprintable()
