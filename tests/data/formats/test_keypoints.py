"""Keypoints in COCO files: what is read, changed and refused."""

import numpy as np
import pytest

from tests.data.keypoint_files import NAMES, face, face_content, write_faces
from tood.data.formats import DataSource, read_dataset
from tood.errors import ConfigError, DataError


@pytest.fixture
def read(tmp_path):
    def read_content(content, num_keypoints=5):
        path = write_faces(tmp_path, content)
        return read_dataset(DataSource(path, str(tmp_path), num_keypoints=num_keypoints))

    return read_content


def changed(row=3, **fields):
    content = face_content()
    content["annotations"][row].update(fields)
    return content


def with_keypoints(change, row=3):
    content = face_content()
    change(content["annotations"][row]["keypoints"])
    return content


def test_order_follows_the_boxes(read):
    """Annotations of one image need not be together."""
    content = face_content()
    expected = read(content).keypoints
    content["annotations"].reverse()
    np.testing.assert_array_equal(read(content).keypoints, expected[[1, 0, 3, 2, 5, 4]])


@pytest.mark.parametrize("values", [None, [], "absent"])
def test_objects_without_keypoints(read, values):
    content = changed(keypoints=values, num_keypoints=0)
    if values == "absent":
        del content["annotations"][3]["keypoints"]
    dataset = read(content)
    assert not dataset.keypoints[3, :, 2].any() and dataset.keypoints[2, :, 2].any()
    what = "objects without keypoints, used for their boxes"
    assert dataset.changes.counts == {what: 1} and not dataset.changes.lost
    assert dataset.changes.examples[what] == "annotation 4 of 2.png"


def test_annotations_without_a_box_are_not_looked_at(read):
    content = changed(bbox=None, keypoints=[1, 2])
    assert len(read(content).keypoints) == 5


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda k: k.pop(), "its keypoints have 14 values, which is not a multiple of 3"),
        (lambda k: k.extend([1, 1, 2]), "it has 6 keypoints, but MODEL.* is 5"),
        (lambda k: k.__setitem__(3, None), "must be numbers"),
        (lambda k: k.__setitem__(3, "12"), "must be numbers"),
        (lambda k: k.__setitem__(3, True), "must be numbers"),
        (lambda k: k.__setitem__(3, 10**400), "must be numbers"),
        (lambda k: k.__setitem__(3, float("nan")), "a value is not finite"),
        (lambda k: k.__setitem__(0, float("inf")), "a value is not finite"),
        (lambda k: k.__setitem__(0, 1e300), "a value is not finite"),
        (lambda k: k.__setitem__(2, 3), "a visibility .every third value. is not 0, 1 or 2"),
        (lambda k: k.__setitem__(2, -1), "is not 0, 1 or 2"),
        (lambda k: k.__setitem__(2, 0.5), "is not 0, 1 or 2"),
    ],
)
def test_refused_with_file_annotation_and_image(read, change, message):
    with pytest.raises(DataError, match=rf"a\.json: annotation 4 of 2\.png: .*{message}") as error:
        read(with_keypoints(change))
    assert "\n" not in str(error.value)


def test_keypoints_that_are_no_list(read):
    with pytest.raises(DataError, match=r"annotation 4 of 2\.png: its keypoints are {'x': 1}, not"):
        read(changed(keypoints={"x": 1}))


def test_fractions_of_the_image(read):
    content = face_content()
    for entry in content["annotations"]:
        values = entry["keypoints"]
        entry["keypoints"] = [x if i % 3 == 2 else x / 96 for i, x in enumerate(values)]
    with pytest.raises(DataError, match=r"keypoints seem to be fractions of the image"):
        read(content)


def test_outside_of_the_image(read):
    """Pixel indices go from 0 to 95; half a pixel more is the border itself."""
    dataset = read(
        with_keypoints(lambda k: k.__setitem__(slice(0, 6), [95.5, -0.5, 2, 95.6, 3, 1]))
    )
    assert dataset.keypoints[3, :2].tolist() == [[96, 0, 2], [0, 0, 0]]
    assert dataset.keypoints[3, 2].any()
    (what,) = (x for x in dataset.changes.counts if "outside" in x)
    assert dataset.changes.counts[what] == 1 and what in dataset.changes.lost
    assert dataset.changes.examples[what].endswith(
        "annotation 4 of 2.png: keypoint 2 at (96.1, 3.5) of 96x96 pixels"
    )


def test_unlabeled_ones_may_be_anywhere(read):
    dataset = read(with_keypoints(lambda k: k.__setitem__(slice(12, 15), [-9, 1000, 0])))
    assert not dataset.changes.counts and dataset.keypoints[3, 4, 2] == 0


def test_num_keypoints_follows_the_visibilities(read):
    """As in detectron2; pycocotools believes num_keypoints."""
    dataset = read(changed(num_keypoints=0))
    assert dataset.changes.examples == {
        "num_keypoints replaced by the labeled ones": "annotation 4 of 2.png: 0"
    }
    assert [x["num_keypoints"] for x in dataset.to_coco()["annotations"]] == [4] * 6


def test_many_beyond_their_boxes(read):
    """Such as (y, x, visibility)."""
    content = face_content()
    for entry in content["annotations"]:
        x, y, width, height = entry["bbox"] = [60, 5, 30, 20]
        entry.update(face([x, y, width, height]))
        values = entry["keypoints"]
        values[0::3], values[1::3] = values[1::3], values[0::3]
    (warning,) = read(content).changes.warnings
    assert warning.startswith("24 of 24 labeled keypoints lie beyond the box of their object")
    assert not read(face_content()).changes.warnings


# ---- names -----------------------------------------------------------------------------------


def categories(*keypoints):
    content = face_content()
    content["categories"] = [
        {"id": i, "name": f"class {i}", "keypoints": names} for i, names in enumerate(keypoints, 1)
    ]
    return content


def test_names(read):
    assert read(categories(NAMES)).keypoint_names == NAMES
    assert read(categories(NAMES, None, [], NAMES)).keypoint_names == NAMES
    assert read(categories(None)).keypoint_names == []
    assert read(face_content(), 0).keypoints is None


def test_names_that_do_not_fit(read):
    with pytest.raises(ConfigError, match=r"'class 1' of .* has 5 keypoints \(nose, .* is 4. Set"):
        read(categories(NAMES), 4)
    with pytest.raises(ConfigError, match="'class 1' and 'class 2' of .* different keypoints"):
        read(categories(NAMES, [*"abcde"]))
    with pytest.raises(DataError, match="'class 1' has the keypoints nose, which are not a list"):
        read(categories("nose"))
    with pytest.raises(DataError, match="which are not a list of names"):
        read(categories([1, 2, 3, 4, 5]))
