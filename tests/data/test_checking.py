"""Reports on sets and on what two sets share."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.data.builders import make_dataset, photo, save_photos
from tood.data.checking import check_dataset, compare_sets
from tood.data.model_input import ModelInput, PointGrid
from tood.data.near_duplicates import fingerprint_images

MODEL_INPUT = ModelInput(
    train_sizes=(120,), test_size=120, grid=PointGrid((8, 16), (64.0, 128.0), 0.0, 32)
)


@pytest.fixture
def train(tmp_path):
    paths = save_photos(tmp_path, [0, 1, 2])
    boxes = [(0, 0, 10, 10, 50, 50), (1, 1, 10, 10, 20, 20), (1, 0, 50, 50, 90, 60)]
    return make_dataset(
        boxes, (160, 120), 3, file_names=paths, is_crowd=[False, False, True], source="train.json"
    )


def test_report(train):
    report = check_dataset(train, MODEL_INPUT, is_train=True)
    assert (report.num_images, report.num_boxes, report.num_crowds) == (3, 2, 1)
    assert report.num_empty_images == 1
    assert report.class_counts == {"a": 1, "b": 1, "c": 0}
    assert [(f.kind.name, f.kind.severity, f.count) for f in report.findings] == [
        ("classes-without-boxes", "warning", 1),
        ("images-without-boxes", "note", 1),
    ]
    content = json.loads(json.dumps(report.as_dict()))
    assert content["sizes"][0]["percentiles"]["50"] == 35
    assert content["findings"][0]["examples"] == ["c"]


def test_images_that_fail_late_are_unreadable(train, tmp_path):
    data = (tmp_path / "1.jpg").read_bytes()
    (tmp_path / "1.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "2.jpg").unlink()
    Image.fromarray(np.zeros((120, 160), np.float32)).save(tmp_path / "0.jpg", "TIFF")
    headers = check_dataset(train, MODEL_INPUT, is_train=True)
    errors = {f.kind.name: f.count for f in headers.findings if f.kind.severity == "error"}
    assert errors == {"missing-image": 1, "unsupported-pixels": 1}
    prints = fingerprint_images(train.file_names)
    report = check_dataset(train, MODEL_INPUT, True, prints)
    errors = {f.kind.name: f for f in report.findings if f.kind.severity == "error"}
    assert {name: f.count for name, f in errors.items()} == {
        "missing-image": 1,
        "unsupported-pixels": 1,
        "unreadable-image": 1,
    }
    assert errors["unreadable-image"].examples[0].startswith(f"{tmp_path}/1.jpg (image file is tr")
    assert errors["unreadable-image"].images == (1,)


def test_equal_files_within_a_set(train, tmp_path):
    (tmp_path / "2.jpg").write_bytes((tmp_path / "0.jpg").read_bytes())
    report = check_dataset(train, MODEL_INPUT, is_train=True)
    [finding] = [f for f in report.findings if f.kind.name == "repeated-files"]
    assert finding.examples == (f"{tmp_path}/2.jpg = {tmp_path}/0.jpg",)


def test_sets_that_share_images(train, tmp_path):
    paths = [str(tmp_path / name) for name in ("new.jpg", "equal.jpg", "copy.jpg")]
    photo(50).save(paths[0])
    (tmp_path / "equal.jpg").write_bytes((tmp_path / "1.jpg").read_bytes())
    photo(2).save(paths[2], quality=40)
    test = make_dataset([(0, 0, 1, 1, 9, 9), (0, 2, 1, 1, 9, 9)], (160, 120), 3, file_names=paths)
    prints = fingerprint_images(train.file_names), fingerprint_images(paths)
    found = {f.kind.name: f for f in compare_sets(train, test, prints)}
    assert list(found) == [
        *("leaked-files", "classes-in-test-only", "classes-in-training-only", "leaked-copies")
    ]
    assert found["leaked-files"].examples == (f"{paths[1]} = {tmp_path}/1.jpg",)
    assert found["leaked-copies"].examples == (f"{paths[2]} = {tmp_path}/2.jpg",)
    assert found["leaked-copies"].images == (2,)
    assert found["classes-in-test-only"].examples == ("c",)
    assert found["classes-in-training-only"].examples == ("b",)
    assert "leaked-copies" not in {f.kind.name for f in compare_sets(train, test)}


def test_sets_of_different_classes(train):
    boxes = [(0, 0, 10, 10, 50, 50)]
    other = make_dataset(boxes, class_names=["a", "b", "d"])
    [finding] = compare_sets(train, other)
    assert (finding.kind.name, finding.kind.severity) == ("different-classes", "error")
    assert finding.examples == ("c", "d")
    turned = make_dataset(boxes, class_names=["b", "a", "c"])
    assert compare_sets(train, turned)[0].kind.name == "different-classes"
