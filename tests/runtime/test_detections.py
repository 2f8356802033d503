"""The record of detections."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from tood_runtime.detections import Detections
from tood_runtime.image_writing import save_image


def make(num: int = 4, **changes) -> Detections:
    corners = np.arange(num, dtype=np.float32)[:, None] + np.array([1, 2, 11.5, 22.25], np.float32)
    fields = {
        "xyxy": corners.astype(np.float32),
        "confidence": np.linspace(0.9, 0.3, num, dtype=np.float32),
        "class_id": np.arange(num, dtype=np.int64) % 3,
        "class_names": ["abc"[i % 3] for i in range(num)],
        "image_size": (50, 60),
    }
    return Detections(**{**fields, **changes})


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"xyxy": np.zeros((4, 5), np.float32)}, r"xyxy must be a \(D, 4\) array of float32"),
        ({"xyxy": np.zeros((4, 4))}, "got shape .4, 4. of float64"),
        ({"xyxy": [[1, 2, 3, 4]]}, "xyxy.*got list"),
        ({"confidence": np.zeros(3, np.float32)}, r"confidence must be a \(4,\) array"),
        ({"confidence": np.zeros((4, 1), np.float32)}, "confidence"),
        ({"class_id": np.zeros(4, np.int32)}, "class_id.*int64.*int32"),
        ({"class_id": np.array([0, 1, -1, 0])}, "must not be negative, got -1"),
        ({"class_names": ["a"] * 3}, "3 names for 4 detections"),
        ({"class_names": ("a",) * 4}, "list of str"),
        ({"class_names": [1, 2, 3, 4]}, "list of str"),
        ({"image_size": [50, 60]}, "image_size"),
        ({"image_size": (50, 0)}, "image_size"),
        ({"image_size": (50.0, 60)}, "image_size"),
        ({"path": 3}, "path"),
    ],
)
def test_fields_are_validated(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_fields_cannot_be_replaced():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().path = "x"


@pytest.mark.parametrize(
    "index, rows",
    [
        (1, [1]),
        (-1, [3]),
        (np.int64(2), [2]),
        (slice(1, 3), [1, 2]),
        (slice(None, None, -1), [3, 2, 1, 0]),
        ([2, 0], [2, 0]),
        (np.array([True, False, False, True]), [0, 3]),
        ([False] * 4, []),
        ([], []),
        (np.array([], dtype=np.float64), []),
    ],
)
def test_indexing(index, rows):
    detections = make(path="x.png")
    part = detections[index]
    assert len(part) == len(rows)
    np.testing.assert_array_equal(part.xyxy, detections.xyxy[rows])
    np.testing.assert_array_equal(part.confidence, detections.confidence[rows])
    np.testing.assert_array_equal(part.class_id, detections.class_id[rows])
    assert part.class_names == [detections.class_names[row] for row in rows]
    assert (part.image_size, part.path) == ((50, 60), "x.png")


@pytest.mark.parametrize("index", [4, -5, [4], [True], np.zeros(5, bool), [0.5]])
def test_wrong_indices(index):
    with pytest.raises(IndexError):
        make()[index]


def test_iteration_gives_single_detections():
    assert [one.class_names for one in make()] == [["a"], ["b"], ["c"], ["a"]]


def test_no_detections():
    empty = make(0)
    assert len(empty) == 0 and list(empty) == [] and empty.to_coco(1, []) == []
    assert len(empty[empty.confidence > 0.5]) == 0


def test_coco_results():
    xyxy = np.array([[1.23456, 2.5, 11.23456, 22.0004]], np.float32)
    one = make(1, xyxy=xyxy, confidence=np.array([0.12345678], np.float32), class_id=np.array([2]))
    assert one.to_coco("name", [7, 8, 90]) == [
        {
            "image_id": "name",
            "category_id": 90,
            "bbox": [1.235, 2.5, 10.0, 19.5],
            "score": 0.123457,
        }
    ]
    assert one.xyxy[0, 2] == np.float32(11.23456)  # not changed
    with pytest.raises(ValueError, match="class_id 2 has no category id"):
        one.to_coco(1, [7, 8])


def test_draw_finds_its_image(tmp_path):
    image = np.full((50, 60, 3), 200, np.uint8)
    with pytest.raises(ValueError, match=r"detections\.draw\(image\)"):
        make().draw()
    with pytest.raises(ValueError, match="come from a URL, which they do not keep"):
        make(path="https://example.com/x.png").draw()
    save_image(image, tmp_path / "x.png")
    drawings = [
        make(path=str(tmp_path / "x.png")).draw(),
        make().draw(image),
        make().draw(Image.fromarray(image)),
        make().draw(tmp_path / "x.png"),
    ]
    for drawing in drawings:
        assert drawing.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(drawing), np.asarray(drawings[0]))
    assert make().draw(image, scale=1).size == (60, 50)
    assert (image == 200).all()
