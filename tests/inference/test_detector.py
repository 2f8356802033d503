"""Detection on single images, compared with detectron2's own predictor."""

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data.detection_utils import convert_PIL_to_numpy
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from PIL import Image

from tests.conftest import make_tiny_cfg
from tood.errors import ConfigError
from tood.inference import Detections, Detector
from tood_runtime.image_io import ImageReadError
from tood_runtime.image_writing import save_image

# ---- numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(120, 200), (64, 64), (41, 30), (300, 100)])
def test_equals_detectron2s_predictor(cfg, detector, size):
    image = np.random.default_rng(1).integers(0, 256, (*size, 3)).astype(np.uint8)
    expected = DefaultPredictor(cfg)(image[:, :, ::-1])["instances"]
    threshold = cfg.MODEL.TOOD.SCORE_THRESH_TEST
    found = detector(image, score_threshold=threshold)
    assert len(found) == len(expected) > 5
    np.testing.assert_array_equal(found.xyxy, expected.pred_boxes.tensor.numpy())
    np.testing.assert_array_equal(found.confidence, expected.scores.numpy())
    np.testing.assert_array_equal(found.class_id, expected.pred_classes.numpy())
    assert found.image_size == size


@pytest.mark.parametrize("image_format", ["BGR", "L", "YUV-BT.601"])
def test_images_reach_the_model_in_its_format(cfg, image, image_format):
    cfg = cfg.clone()
    cfg.INPUT.FORMAT = image_format
    channels = 1 if image_format == "L" else 3
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [100.0] * channels, [50.0] * channels
    cfg.INPUT.MIN_SIZE_TEST = 0  # as they are
    seen = []
    detector = Detector(build_model(cfg).eval(), cfg)
    original = detector.model.preprocess_image
    detector.model.preprocess_image = lambda batch: (
        seen.append(batch[0]["image"]) or original(batch)
    )
    detector(image)
    expected = convert_PIL_to_numpy(Image.fromarray(image), image_format).astype(np.float32)
    np.testing.assert_array_equal(seen[0].numpy(), expected.transpose(2, 0, 1))


def test_result(detector, image):
    found = detector(image, score_threshold=0.1)
    assert isinstance(found, Detections) and found.path is None
    assert found.class_names == [detector.class_names[i] for i in found.class_id]
    assert detector.class_names[2] == "cat" and detector.category_ids[2] == 30
    assert (np.diff(found.confidence) <= 0).all()
    assert found.xyxy.min() >= 0 and (found.xyxy.max(axis=0) <= [200, 120, 200, 120]).all()
    assert found.draw(image).size == (480, 288)


# ---- thresholds ------------------------------------------------------------------------------


def test_any_threshold_works_and_the_config_keeps_its_own(assert_same, cfg, image):
    """Also below the evaluation's threshold; higher ones give the best of the lower ones."""
    cfg = cfg.clone()
    cfg.MODEL.TOOD.SCORE_THRESH_TEST = 0.4
    cfg.TEST.DETECTIONS_PER_IMAGE = 10000
    detector = Detector.from_config(cfg)
    lowest = detector(image, score_threshold=0)
    assert lowest.confidence.min() < 0.1
    for threshold in (0.05, 0.3, 0.4, 0.6):
        found = detector(image, score_threshold=threshold)
        assert_same(found, lowest[lowest.confidence > np.float32(threshold)])
    assert len(detector(image, score_threshold=1)) == 0
    assert_same(detector(image), detector(image, score_threshold=0.3))
    assert detector.cfg.MODEL.TOOD.SCORE_THRESH_TEST == 0.4
    assert detector.model.test_score_thresh == 0.4


def test_threshold_includes_centerness(cfg, image):
    """Heads with centerness apply theirs before it is multiplied into the scores."""
    cfg = cfg.clone()
    cfg.MODEL.TOOD.HEAD.NAME, cfg.MODEL.TOOD.PARALLEL_HEAD.CENTERNESS = "ParallelHead", True
    cfg.MODEL.TOOD.ALIGNED.CRITERION = "CenternessFocalCriterion"
    detector = Detector(build_model(cfg).eval(), cfg)
    torch.nn.init.zeros_(detector.model.head.cls_score.bias)
    lowest = detector(image, score_threshold=0)
    threshold = float(np.median(lowest.confidence))
    found = detector(image, score_threshold=threshold)
    assert 0 < len(found) < len(lowest) and found.confidence.min() > threshold


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), 50])
def test_thresholds_outside_of_0_to_1(detector, image, threshold):
    with pytest.raises(ValueError, match="score_threshold must be between 0 and 1"):
        detector(image, score_threshold=threshold)


@pytest.mark.parametrize(
    "architecture, key",
    [("RetinaNet", "MODEL.RETINANET"), ("GeneralizedRCNN", "MODEL.ROI_HEADS")],
)
def test_detectron2s_own_detectors(assert_same, image, architecture, key):
    cfg = get_cfg()
    cfg.set_new_allowed(True)
    cfg.merge_from_other_cfg(make_tiny_cfg())
    cfg.MODEL.META_ARCHITECTURE = architecture
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC, cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 1, 7
    cfg.MODEL.RETINANET.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[0.5, 1.0, 2.0]]
    cfg.MODEL.RETINANET.PRIOR_PROB = 0.2
    cfg.MODEL.RETINANET.NUM_CLASSES = cfg.MODEL.ROI_HEADS.NUM_CLASSES = 7
    cfg.MODEL.TOOD.CLASS_NAMES = ["ant", "bee", "cat", "dog", "elk"]
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.FORMAT = 64, "BGR"
    detector = Detector(build_model(cfg).eval(), cfg)
    lowest = detector(image, score_threshold=0.05)
    known = {"ant", "bee", "cat", "dog", "elk"}
    assert len(lowest) > 0 and set(lowest.class_names) <= known | {"class 5", "class 6"}
    threshold = float(np.median(lowest.confidence))
    assert_same(detector(image, score_threshold=threshold), lowest[lowest.confidence > threshold])
    with pytest.raises(ConfigError, match=rf"0\.01 is below {key}\.SCORE_THRESH_TEST 0\.05"):
        detector(image, score_threshold=0.01)


# ---- images ----------------------------------------------------------------------------------


def test_all_kinds_of_images_give_the_same(assert_same, detector, image, tmp_path):
    path = tmp_path / "x.png"
    save_image(image, path)
    expected = detector(image)
    assert_same(detector(image[:, :, ::-1], channel_order="BGR"), expected)
    assert_same(detector(Image.fromarray(image)), expected)
    assert_same(detector(path), expected)
    assert_same(detector(str(path)), expected)
    assert detector(path).path == str(path)
    drawing = np.asarray(detector(path).draw())
    np.testing.assert_array_equal(drawing, np.asarray(expected.draw(image)))


def test_orientation_is_applied(assert_same, detector, image, tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(image).save(tmp_path / "x.png", exif=exif)
    expected = detector(np.ascontiguousarray(np.rot90(image, -1)))
    assert_same(detector(tmp_path / "x.png"), expected)
    assert expected.image_size == (200, 120)


def test_stored_pixels(assert_same, cfg, image, tmp_path):
    """The drawing uses them too."""
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(image).save(tmp_path / "x.png", exif=exif)
    cfg = cfg.clone()
    cfg.INPUT.APPLY_EXIF_ORIENTATION = False
    detector = Detector.from_config(cfg)
    found = detector(tmp_path / "x.png")
    assert_same(found, detector(image))
    assert found.image_size == (120, 200)
    assert found.draw().size == found[:1].draw().size == (480, 288)


def test_the_image_is_not_changed(detector, image):
    before = image.copy()
    image.flags.writeable = False
    detector(image)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (900, 3), (2, 5000)])
def test_extreme_shapes(detector, size):
    """detectron2's resize would leave no pixel of some sides."""
    found = detector(np.full((*size, 3), 90, np.uint8), score_threshold=0)
    assert found.image_size == size


@pytest.mark.parametrize(
    "bad, error",
    [
        (None, TypeError),
        (torch.zeros(3, 8, 8), TypeError),
        (np.zeros((8, 8, 3), np.float32), TypeError),
        (np.zeros((3, 8, 8), np.uint8), ValueError),
        (np.zeros((0, 8, 3), np.uint8), ValueError),
        ("missing.png", ImageReadError),
    ],
)
def test_unsupported_input_is_explained_in_one_sentence(detector, bad, error):
    with pytest.raises(error) as caught:
        detector(bad)
    assert "\n" not in str(caught.value)


def test_unknown_channel_order(detector, image):
    with pytest.raises(ValueError, match="channel_order 'GBR'"):
        detector(image, channel_order="GBR")
