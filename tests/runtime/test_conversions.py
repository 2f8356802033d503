"""Detections in the forms of other programs, read by those programs."""

import numpy as np
import pytest
from PIL import Image

from tests.runtime.test_detections import make
from tood_runtime import missing_packages


@pytest.mark.parametrize("num", [0, 1, 4])
def test_supervision(num):
    supervision = pytest.importorskip("supervision")
    found = make(num)
    converted = found.to_supervision()
    assert isinstance(converted, supervision.Detections) and len(converted) == num
    np.testing.assert_array_equal(converted.xyxy, found.xyxy)
    np.testing.assert_array_equal(converted.confidence, found.confidence)
    np.testing.assert_array_equal(converted.class_id, found.class_id)
    assert list(converted.data["class_name"]) == found.class_names
    converted.xyxy += 1
    np.testing.assert_array_equal(found.xyxy, make(num).xyxy)
    image = np.zeros((50, 60, 3), np.uint8)
    annotated = supervision.BoxAnnotator().annotate(image.copy(), converted)
    assert annotated.any() == (num > 0)
    assert len(converted.with_nms(0.5)) <= num


def test_supervision_selects_by_class_name():
    pytest.importorskip("supervision")
    converted = make().to_supervision()
    assert len(converted[converted.data["class_name"] == "a"]) == 2


@pytest.mark.parametrize("num", [0, 4])
def test_instances(num):
    from detectron2.utils.visualizer import Visualizer

    found = make(num)
    outputs = found.to_instances()
    instances = outputs["instances"]
    assert instances.image_size == (50, 60) and len(instances) == num
    np.testing.assert_array_equal(instances.pred_boxes.tensor.numpy(), found.xyxy)
    np.testing.assert_array_equal(instances.scores.numpy(), found.confidence)
    np.testing.assert_array_equal(instances.pred_classes.numpy(), found.class_id)
    drawn = Visualizer(np.zeros((50, 60, 3), np.uint8)).draw_instance_predictions(instances)
    assert drawn.get_image().any() == (num > 0)


@pytest.mark.parametrize("num", [0, 4])
def test_supervision_takes_the_instances(num):
    supervision = pytest.importorskip("supervision")
    found = make(num)
    converted = supervision.Detections.from_detectron2(found.to_instances())
    np.testing.assert_array_equal(converted.xyxy, found.xyxy)
    np.testing.assert_array_equal(converted.class_id, found.class_id)


@pytest.mark.parametrize("num", [0, 4])
def test_dataframe(num, tmp_path):
    pandas = pytest.importorskip("pandas")
    table = make(num, path="a b.png").to_dataframe()
    assert list(table.columns) == [
        "path", "frame", "time", "tracker_id", "class_id", "class_name", "confidence",
        "x1", "y1", "x2", "y2",
        "image_width", "image_height",
    ]  # fmt: skip
    assert len(table) == num and table["class_id"].dtype == np.int64
    assert table["confidence"].dtype == np.float32 and table["tracker_id"].dtype == "Int64"
    assert table["frame"].isna().all()
    table.to_csv(tmp_path / "x.csv", index=False)
    read = pandas.read_csv(tmp_path / "x.csv")
    if num:
        assert list(read["class_name"]) == ["a", "b", "c", "a"]
        assert read.loc[1, ["x1", "y1", "x2", "y2"]].tolist() == [2, 3, 12.5, 23.25]
        assert read.loc[0, ["path", "image_width", "image_height"]].tolist() == ["a b.png", 60, 50]


def test_yolo_lines():
    xyxy = np.array([[6, 5, 18, 30], [-3, 0, 60, 51]], np.float32)
    found = make(2, xyxy=xyxy, confidence=np.array([0.75, 0.5], np.float32))
    # Centers (12, 17.5), sizes (12, 25) of 60x50; the second box is clipped to the image.
    assert found.to_yolo() == (
        "0 0.200000 0.350000 0.200000 0.500000 0.750000\n"
        "1 0.500000 0.500000 1.000000 1.000000 0.500000\n"
    )
    assert (
        found.to_yolo(confidence=False).splitlines()[0] == "0 0.200000 0.350000 0.200000 0.500000"
    )
    assert make(0).to_yolo() == ""


def test_crops():
    image = np.arange(50 * 60 * 3, dtype=np.uint32).astype(np.uint8).reshape(50, 60, 3)
    xyxy = np.array([[10.5, 5, 20, 14.2], [0, 0, 60, 50], [7, 7, 7, 7], [60, 50, 60, 50]])
    found = make(4, xyxy=xyxy.astype(np.float32))
    crops = found.crops(image)
    assert [crop.size for crop in crops] == [(10, 10), (60, 50), (1, 1), (1, 1)]
    np.testing.assert_array_equal(np.asarray(crops[0]), image[5:15, 10:20])
    wide = found.crops(Image.fromarray(image), margin=0.5)
    np.testing.assert_array_equal(np.asarray(wide[0]), image[0:19, 5:25])
    assert wide[1].size == (60, 50)
    assert make(0).crops(image) == []


def test_crops_find_their_image(tmp_path):
    image = np.full((50, 60, 3), 9, np.uint8)
    Image.fromarray(image).save(tmp_path / "x.png")
    assert len(make(path=str(tmp_path / "x.png")).crops()) == 4
    with pytest.raises(ValueError, match=r"detections\.crops\(image\)"):
        make().crops()
    with pytest.raises(ValueError, match="60x49 pixels"):
        make().crops(image[:49])
    with pytest.raises(ValueError, match="margin"):
        make().crops(image, margin=-0.1)


@pytest.mark.parametrize(
    ("method", "package"),
    [("to_supervision", "supervision"), ("to_dataframe", "pandas"), ("to_instances", "torch")],
)
def test_missing_packages_are_named(monkeypatch, method, package):
    def import_module(name):
        raise ImportError(f"No module named '{name}'")

    monkeypatch.setattr(missing_packages, "import_module", import_module)
    with pytest.raises(ImportError, match=rf"{method}\(\) needs the package {package}.*Install it"):
        getattr(make(), method)()
