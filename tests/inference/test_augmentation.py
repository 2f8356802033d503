"""Test-time augmentation of a detector."""

import numpy as np
import pytest
from detectron2.modeling import build_model

from tests.conftest import make_tiny_cfg
from tests.inference.network_backend import NetworkBackend
from tood.errors import ConfigError
from tood.export.metadata import build_info
from tood.export.options import ExportOptions
from tood.export.wrapper import DetectionNetwork
from tood.inference import Detector, ExportedModel
from tood_runtime.prediction import OptionError


@pytest.fixture(scope="module")
def aug_cfg(cfg):
    cfg = cfg.clone()
    node = cfg.TEST.AUG
    node.MIN_SIZES, node.MAX_SIZE, node.FLIP = (64, 96), 160, True
    return cfg


@pytest.fixture(scope="module")
def augmented(aug_cfg):
    return Detector.from_config(aug_cfg, tta=True)


def test_identity_changes_nothing(cfg, detector, image, assert_same):
    """Bit for bit, with the options that choose in NumPy too."""
    cfg = cfg.clone()
    cfg.TEST.AUG.MIN_SIZES, cfg.TEST.AUG.MAX_SIZE, cfg.TEST.AUG.FLIP = (64,), 96, False
    same = Detector.from_config(cfg, tta=True)
    for options in ({}, {"nms": "class-agnostic"}, {"max_detections": 9, "classes": ["cat"]}):
        options["score_threshold"] = 0.1
        assert_same(same(image, **options), detector(image, **options))


def test_the_config_alone_does_not_switch_it_on(aug_cfg, detector, image, assert_same):
    """It is for evaluation; a detector that is several times slower has to be asked for."""
    cfg = aug_cfg.clone()
    cfg.TEST.AUG.ENABLED = True
    assert_same(Detector.from_config(cfg)(image), detector(image))


def test_a_mirrored_image_has_mirrored_detections(augmented, detector, image):
    found, mirrored = (augmented(x, score_threshold=0.2) for x in (image, image[:, ::-1]))
    assert len(found) == len(mirrored) > 10
    np.testing.assert_allclose(mirrored.confidence, found.confidence, rtol=0, atol=2e-2)
    x1, y1, x2, y2 = found.xyxy[:10].T
    boxes = np.stack([200 - x2, y1, 200 - x1, y2], axis=1)
    # Equal scores may change places, and Pillow rounds a mirrored image in other places.
    distances = np.abs(boxes[:, None] - mirrored.xyxy[None]).max(axis=2).min(axis=1)
    assert distances.max() < 1
    plain, other = (detector(x, score_threshold=0.2) for x in (image, image[:, ::-1]))
    assert abs(plain.confidence[0] - other.confidence[0]) > 1e-3


def test_many_images_have_the_detections_that_each_has_alone(augmented, image):
    images = [image, image[:100], image[:, ::-1], image[20:, :150]]
    single = [augmented(x) for x in images]
    for found, expected in zip(augmented.predict(images, batch_size=3), single, strict=True):
        assert len(found) == len(expected) > 5
        np.testing.assert_allclose(found.xyxy, expected.xyxy, rtol=0, atol=1e-2)
        np.testing.assert_allclose(found.confidence, expected.confidence, rtol=0, atol=1e-5)


def test_slices_have_their_views(augmented, image):
    found = augmented(image, slice_size=80)
    assert len(found) > 5 and found.xyxy.max() <= 200


def test_both_kinds_of_mirror_images_are_refused(augmented, aug_cfg, image):
    with pytest.raises(OptionError, match="Give either flip or tta"):
        augmented(image, flip=True)
    cfg = aug_cfg.clone()
    cfg.TEST.AUG.FLIP = False
    assert len(Detector.from_config(cfg, tta=True)(image, flip=True))


def test_models_without_it(aug_cfg, detector):
    model = detector.model
    info = build_info(model, aug_cfg, ExportOptions(), name="tiny")
    exported = ExportedModel(NetworkBackend(DetectionNetwork(model), info))
    with pytest.raises(ConfigError, match="Use flip instead"):
        Detector(exported, aug_cfg, tta=True)
    cfg = make_tiny_cfg()
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    cfg.MODEL.TOOD.CLASS_NAMES = ["a", "b", "c", "d", "e"]
    with pytest.raises(ConfigError, match="tta"):
        Detector(build_model(cfg).eval(), cfg, tta=True)
    cfg = aug_cfg.clone()
    cfg.TEST.AUG.MIN_SIZES = ()
    with pytest.raises(ConfigError, match="TEST.AUG.MIN_SIZES is"):
        Detector.from_config(cfg, tta=True)
