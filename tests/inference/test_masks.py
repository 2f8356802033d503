"""Masks of detectron2's Mask R-CNN, from a call to the files of tood detect."""

import copy
import csv
import importlib.util
import json

import numpy as np
import pytest
import torch
from detectron2.engine import DefaultPredictor
from detectron2.modeling import GeneralizedRCNN, build_model, detector_postprocess
from detectron2.structures import Boxes, Instances
from pycocotools import mask as mask_util

from tests.conftest import make_tiny_cfg
from tests.mask_rcnn import make_mask_rcnn_cfg
from tests.modeling.two_stage import to_two_stage
from tood.errors import ConfigError
from tood.inference import Detector, two_stage
from tood_runtime.cli import main
from tood_runtime.dataset import BatchDetector, arrow_schema
from tood_runtime.dataset.rows import to_coco
from tood_runtime.image_io import read_image
from tood_runtime.image_writing import save_image
from tood_runtime.prediction import OptionError


@pytest.fixture(scope="module")
def cfg(tmp_path_factory):
    """A Mask R-CNN with random weights whose masks are neither empty nor their whole boxes."""
    torch.manual_seed(0)
    cfg = make_mask_rcnn_cfg()
    cfg.INPUT.FORMAT = "BGR"
    cfg.TEST.DETECTIONS_PER_IMAGE = 30
    model = build_model(cfg)
    torch.nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight, std=0.5)
    torch.nn.init.normal_(model.roi_heads.mask_head.predictor.weight, std=2)
    cfg.MODEL.WEIGHTS = str(tmp_path_factory.mktemp("weights") / "model.pth")
    torch.save(model.state_dict(), cfg.MODEL.WEIGHTS)
    return cfg


@pytest.fixture(scope="module")
def detector(cfg):
    return Detector.from_config(cfg)


@pytest.fixture
def expected(cfg, image):
    return DefaultPredictor(cfg)(image[:, :, ::-1])["instances"]


def assert_same(found, expected):
    assert len(found) == len(expected)
    np.testing.assert_array_equal(found.xyxy, expected.xyxy)
    np.testing.assert_array_equal(found.confidence, expected.confidence)
    np.testing.assert_array_equal(found.class_id, expected.class_id)
    np.testing.assert_array_equal(found.mask, expected.mask)


@pytest.mark.parametrize("most_bytes", [2**27, 3 * 120 * 200, 1])
def test_equals_detectron2s_predictor(monkeypatch, detector, image, expected, most_bytes):
    """Also where masks are pasted in parts of three, or one by one."""
    monkeypatch.setattr(two_stage, "_MOST_BYTES", most_bytes)
    found = detector(image, score_threshold=0)
    assert detector.predicts_masks and len(found) == len(expected) == 30
    np.testing.assert_array_equal(found.xyxy, expected.pred_boxes.tensor.numpy())
    np.testing.assert_array_equal(found.confidence, expected.scores.numpy())
    assert found.mask.shape == (30, 120, 200) and found.mask.dtype == bool
    np.testing.assert_array_equal(found.mask, expected.pred_masks.numpy())
    share = found.mask.area / np.prod(found.xyxy[:, 2:] - found.xyxy[:, :2], axis=1)
    assert ((share > 0.1) & (share < 0.9)).sum() > 10


def test_a_model_with_its_own_inference_gives_the_same(detector, image):
    """It is called as it is, and its masks are packed when it has pasted them."""

    class Own(GeneralizedRCNN):
        def inference(self, *args, **kwargs):
            return super().inference(*args, **kwargs)

    model = copy.deepcopy(detector.model)
    model.__class__ = Own
    assert two_stage.can_paste_later(detector.model) and not two_stage.can_paste_later(model)
    other = Detector(model, detector.cfg)
    for threshold in (0, 1):
        expected = detector(image, score_threshold=threshold)
        assert_same(other(image, score_threshold=threshold), expected)


@pytest.mark.parametrize("roi_heads", ["TOODStandardROIHeads", "TOODCascadeROIHeads"])
def test_second_stages_on_toods_proposals(image, tmp_path, roi_heads):
    cfg = to_two_stage(make_tiny_cfg(), roi_heads)
    cfg.MODEL.MASK_ON, cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = True, 0.0
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.FORMAT = 64, "BGR"
    cfg.MODEL.TOOD.CLASS_NAMES = ["ant", "bee", "cat", "dog", "elk"]
    cfg.MODEL.WEIGHTS = str(tmp_path / "model.pth")
    model = build_model(cfg)
    torch.nn.init.normal_(model.roi_heads.mask_head.predictor.weight, std=2)
    torch.save(model.state_dict(), cfg.MODEL.WEIGHTS)
    expected = DefaultPredictor(cfg)(image[:, :, ::-1])["instances"]
    found = Detector.from_config(cfg)(image, score_threshold=0)
    assert len(found) == len(expected) > 5
    np.testing.assert_array_equal(found.xyxy, expected.pred_boxes.tensor.numpy())
    np.testing.assert_array_equal(found.mask, expected.pred_masks.numpy())


def test_lower_precision_pastes_as_float32_does():
    """In bfloat16, coordinates of neighboring pixels would be the same."""

    def make(dtype):
        found = Instances((64, 96))
        found.pred_boxes = Boxes(torch.tensor([[1, 2, 90, 60.0], [10, 0, 96, 64]]))
        found.scores, found.pred_classes = torch.ones(2).to(dtype), torch.zeros(2).long()
        masks = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        found.pred_masks = masks.bfloat16().to(dtype)
        return found

    expected = detector_postprocess(make(torch.float32), 600, 1000).pred_masks
    with torch.autocast("cpu", torch.bfloat16):
        candidates = two_stage._to_candidates(make(torch.bfloat16), (600, 1000))
    np.testing.assert_array_equal(candidates.masks, expected.numpy())


def test_options_select_masks_with_their_boxes(detector, image, monkeypatch):
    every = detector(image, score_threshold=0)
    threshold = float(np.median(every.confidence))
    assert_same(detector(image, score_threshold=threshold), every[every.confidence > threshold])
    name = every.class_names[3]
    chosen = [class_name == name for class_name in every.class_names]
    assert_same(detector(image, score_threshold=0, classes=[name]), every[chosen])
    assert_same(detector(image, score_threshold=0, max_detections=4), every[:4])
    monkeypatch.setitem(detector.cfg.TEST, "DETECTIONS_PER_IMAGE", -1)  # all
    assert_same(detector(image, score_threshold=0, max_detections=4), every[:4])
    assert_same(detector(image, score_threshold=0), every)
    nothing = detector(image, score_threshold=1)
    assert len(nothing) == 0 and nothing.mask.shape == (0, 120, 200)


def test_batches(detector, image):
    images = [image, image[:60], image[::-1].copy(), image, image[:, :100].copy()]
    found = list(detector.predict(images, batch_size=2, score_threshold=0.1))
    for one, pixels in zip(found, images, strict=True):
        alone = detector(pixels, score_threshold=0.1)
        assert one.mask.shape == (len(one), *pixels.shape[:2]) and len(one) > 3
        np.testing.assert_allclose(one.xyxy, alone.xyxy, atol=1e-3)
        assert (np.asarray(one.mask) != np.asarray(alone.mask)).mean() < 1e-3


@pytest.mark.parametrize("options", [{"flip": True}, {"slice_size": 64}])
def test_views_are_refused_rather_than_joined_without_masks(detector, image, options):
    with pytest.raises(OptionError, match="masks cannot be joined yet.*MODEL.MASK_ON False"):
        detector(image, **options)


def test_augmentation_is_refused(cfg):
    with pytest.raises(ConfigError, match="tta"):
        Detector.from_config(cfg, tta=True)


def test_without_masks_in_the_config(cfg, image):
    cfg = cfg.clone()
    cfg.MODEL.MASK_ON = False
    detector = Detector(build_model(cfg).eval(), cfg)
    found = detector(image, score_threshold=0)
    assert len(found) > 0 and found.mask is None and not detector.predicts_masks
    assert len(detector(image, score_threshold=0, flip=True)) > 0


def test_rows_of_a_data_set(detector, image):
    rows = BatchDetector(detector, score_threshold=0.1)({"image": [image], "image_id": [7]})
    found = detector(image, score_threshold=0.1)
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table(rows, schema=arrow_schema())
    assert to_coco(table.to_pylist(), range(5)) == found.to_coco(7, range(5))


def test_tood_detect_saves_masks(cfg, detector, image, tmp_path, capsys):
    save_image(image, tmp_path / "x.png")
    (tmp_path / "config.yaml").write_text(cfg.dump())
    options = ["--config-file", tmp_path / "config.yaml", "--score-threshold", 0.1]
    has_parquet = importlib.util.find_spec("pyarrow") is not None
    for name in ("json", "csv", *(["parquet"] if has_parquet else [])):
        options += [f"--{name}", tmp_path / f"found.{name}"]
    options += ["--yolo", tmp_path / "yolo", "--output", tmp_path / "out"]
    assert main(["detect", str(tmp_path / "x.png"), *map(str, options)]) == 0
    assert "--yolo writes boxes only" in capsys.readouterr().out
    found = detector(image, score_threshold=0.1)
    results = json.loads((tmp_path / "found.json").read_text())
    assert results == found.to_coco(1, detector.category_ids) and len(results) > 3
    segmentations = [result["segmentation"] for result in results]
    masks = np.moveaxis(mask_util.decode(segmentations), 2, 0)
    np.testing.assert_array_equal(masks, found.mask)
    with open(tmp_path / "found.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [json.loads(row["segmentation"]) for row in rows] == segmentations
    if has_parquet:
        table = pytest.importorskip("pyarrow.parquet").read_table(tmp_path / "found.parquet")
        assert list(map(json.loads, table["segmentation"].to_pylist())) == segmentations
    drawing = read_image(str(tmp_path / "out" / "x.png"))
    np.testing.assert_array_equal(drawing, np.asarray(found.draw(image)))
