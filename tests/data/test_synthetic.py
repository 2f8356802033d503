"""The synthetic dataset."""

import json

import cv2
import numpy as np
from pycocotools import mask as mask_util

from tood.data import synthetic
from tood.data.formats import DataSource, read_dataset
from tood.data.synthetic import draw_image, main


def test_images_are_deterministic():
    image, annotations = draw_image(3, 11, 96)
    again, same = draw_image(3, 11, 96)
    assert np.array_equal(image, again) and annotations == same
    other, _ = draw_image(4, 11, 96)
    assert not np.array_equal(image, other)


def test_written_dataset(shapes):
    train, val = (json.loads((shapes / f"{split}.json").read_text()) for split in ("train", "val"))
    assert [len(x["images"]) for x in (train, val)] == [6, 3]
    assert not {i["id"] for i in train["images"]} & {i["id"] for i in val["images"]}
    for entry in train["annotations"]:
        x, y, w, h = entry["bbox"]
        assert x >= 0 and y >= 0 and w > 0 and h > 0 and x + w <= 96 and y + h <= 96
        assert 0 < entry["area"] <= w * h
    image = cv2.imread(str(shapes / "images" / train["images"][0]["file_name"]))
    assert image.shape == (96, 96, 3)


def test_all_classes_sizes_and_overlaps_occur():
    annotations = [draw_image(0, i)[1] for i in range(60)]
    flat = [a for image in annotations for a in image]
    assert {a["category_id"] for a in flat} == {1, 2, 3, 4, 5}
    sides = [max(a["bbox"][2:]) for a in flat]
    assert min(sides) < 20 and max(sides) > 96

    def overlap(a, b):
        (ax, ay, aw, ah), (bx, by, bw, bh) = a["bbox"], b["bbox"]
        return ax < bx + bw and bx < ax + aw and ay < by + bh and by < ay + ah

    assert any(overlap(a, b) for image in annotations for a in image for b in image if a is not b)


def test_annotations_do_not_change():
    """The published results of the quickstart belong to these images."""
    annotations = draw_image(0, 5)[1]
    assert [a["category_id"] for a in annotations] == [5, 2, 4, 3, 5, 1]
    expected = [
        [108, 78, 35, 35],
        [0, 0, 91, 86],
        [101, 72, 20, 20],
        [4, 0, 84, 71],
        [10, 29, 30, 30],
        [71, 72, 20, 20],
    ]
    np.testing.assert_allclose([a["bbox"] for a in annotations], expected, atol=1)


def test_masks_are_the_visible_pixels(monkeypatch):
    """Also of shapes that others cut into pieces, or lie on."""
    visible = []
    original = synthetic.mask_to_polygons
    monkeypatch.setattr(
        synthetic, "mask_to_polygons", lambda mask: visible.append(mask) or original(mask)
    )
    num_pieces, num_holes = [], []
    for index in range(40):
        visible.clear()
        image, annotations = draw_image(0, index)
        size = image.shape[:2]
        together = np.zeros(size, int)
        for mask, annotation in zip(visible, annotations, strict=True):
            rle = mask_util.merge(mask_util.frPyObjects(annotation["segmentation"], *size))
            np.testing.assert_array_equal(mask_util.decode(rle), mask)
            assert mask_util.area(rle) == annotation["area"]
            assert mask_util.toBbox(rle).tolist() == annotation["bbox"]
            together += mask
            pieces, _ = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
            around, _ = cv2.connectedComponents(np.pad(~mask, 1, constant_values=1).view(np.uint8))
            num_pieces.append(pieces - 1)
            num_holes.append(around - 2)
        assert together.max() <= 1  # a pixel belongs to the topmost shape
    assert num_pieces.count(2) > 0 and num_holes.count(1) > 0


def test_masks_are_read_where_they_are_used(shapes):
    source = (str(shapes / "train.json"), str(shapes / "images"))
    assert read_dataset(DataSource(*source)).segmentations is None
    dataset = read_dataset(DataSource(*source, with_masks=True))
    assert dataset.num_boxes == len(dataset.segmentations) > 0
    assert not dataset.changes.counts and not dataset.changes.warnings


def test_command_line(tmp_path, capsys):
    options = ["--num-train", "2", "--num-val", "1", "--size", "48", "--seed", "7"]
    assert main(["--output", str(tmp_path / "new"), *options]) == 0
    assert "2 training and 1 validation images" in capsys.readouterr().out
    assert len(list((tmp_path / "new" / "images").iterdir())) == 3
    first = json.loads((tmp_path / "new" / "train.json").read_text())["annotations"][0]
    assert first["bbox"] == draw_image(7, 0, 48)[1][0]["bbox"]
