"""The mapper transforms keypoints as detectron2's does; wrong flips are refused."""

import copy

import numpy as np
import pytest
import torch
from detectron2.data import DatasetMapper, MetadataCatalog
from detectron2.data.build import filter_images_with_few_keypoints
from detectron2.data.datasets import load_coco_json

from tests.data.keypoint_files import (
    FLIPPED,
    NAMES,
    SIDE,
    face,
    face_content,
    keypoint_rcnn_cfg,
    write_faces,
)
from tood.data import build_test_loader, build_train_loader, setup_datasets
from tood.data.filtering import filter_training_set
from tood.data.mapper import DetectionMapper
from tood.data.registration import load_dataset
from tood.errors import ConfigError, DataError


@pytest.fixture
def make_cfg(tmp_path):
    def make(content=None, *opts):
        cfg = keypoint_rcnn_cfg(write_faces(tmp_path, content), tmp_path)
        cfg.merge_from_list(list(opts))
        return cfg

    return make


@pytest.fixture
def cfg(make_cfg):
    cfg = make_cfg()
    setup_datasets(cfg)
    return cfg


# ---- the dicts -------------------------------------------------------------------------------


def test_dicts_are_those_of_detectron2(cfg, tmp_path):
    """Half a pixel is added to the coordinates, also of unlabeled keypoints."""
    theirs = load_coco_json(cfg.DATASETS.TRAIN_ANNOTATIONS, str(tmp_path))
    ours = load_dataset(cfg.DATASETS.TRAIN[0]).dicts()
    for record, expected in zip(ours, theirs, strict=True):
        for found, entry in zip(record["annotations"], expected["annotations"], strict=True):
            assert found["keypoints"] == entry["keypoints"]
    # The first face: its nose is at x = 7 + 0.5 * 40, y = 8 + int(0.6 * 48).
    assert ours[0]["annotations"][0]["keypoints"][:3] == [27.5, 36.5, 2]
    assert ours[0]["annotations"][0]["keypoints"][-3:] == [0.5, 0.5, 0]


# ---- transforms ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("crop", [(), (0.5, 0.6)])
def test_transformed_as_by_detectron2(cfg, seed, crop):
    cfg.INPUT.MIN_SIZE_TRAIN = (60, 83, 120)
    cfg.INPUT.CROP.ENABLED = bool(crop)
    if crop:
        cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = "relative_range", list(crop)
    record = load_dataset(cfg.DATASETS.TRAIN[0]).record(1)
    given = copy.deepcopy(record)
    samples = []
    for mapper in (DetectionMapper(cfg, is_train=True), DatasetMapper(cfg, True)):
        np.random.seed(seed)
        samples.append(mapper(record)["instances"])
    ours, theirs = samples
    assert record == given
    assert ours.image_size == theirs.image_size and len(ours)
    assert torch.equal(ours.gt_boxes.tensor, theirs.gt_boxes.tensor)
    assert torch.equal(ours.gt_keypoints.tensor, theirs.gt_keypoints.tensor)
    assert ours.gt_keypoints.tensor.shape == (len(ours), len(NAMES), 3)


def test_a_flip_exchanges_sides(cfg):
    """By hand: x becomes 96 - x, and the left eye is the keypoint that was the right one."""
    dataset = load_dataset(cfg.DATASETS.TRAIN[0])
    plain = torch.from_numpy(dataset.keypoints[:2].copy())
    mapper = DetectionMapper(cfg, is_train=True)
    expected = plain[:, FLIPPED].clone()
    expected[..., 0] = SIDE - expected[..., 0]
    expected[expected[..., 2] == 0] = 0
    found = []
    for seed in range(10):
        np.random.seed(seed)
        found.append(mapper(dataset.record(0))["instances"].gt_keypoints.tensor)
    flipped = [torch.equal(points, expected) for points in found]
    assert 0 < sum(flipped) < 10
    plain[plain[..., 2] == 0] = 0
    others = [points for points, is_flipped in zip(found, flipped, strict=True) if not is_flipped]
    assert all(torch.equal(points, plain) for points in others)


@pytest.mark.parametrize(
    "opts",
    [
        ["INPUT.LSJ.ENABLED", True, "INPUT.LSJ.SIZE", [80, 112], "INPUT.LSJ.MIN_SCALE", 0.4],
        ["INPUT.CROP.ENABLED", True, "INPUT.COLOR_JITTER.ENABLED", True],
    ],
)
def test_keypoints_in_the_corners_stay_there(make_cfg, opts):
    """Left ones are left in the image here, also after flips; those cut away are unlabeled."""
    content = face_content()
    for entry in content["annotations"]:
        x, y, width, height = entry["bbox"]
        corners = [(x, y), (x + width, y), (x, y + height), (x + width, y + height)]
        entry["bbox"] = [x + 0.5, y + 0.5, width, height]
        entry["keypoints"] = [0, 0, 0] + [value for corner in corners for value in (*corner, 2)]
    cfg = make_cfg(content, *opts)
    setup_datasets(cfg)
    mapper = DetectionMapper(cfg, is_train=True)
    counts = np.zeros(2, int)
    for seed in range(20):
        np.random.seed(seed)
        for record in load_dataset(cfg.DATASETS.TRAIN[0]):
            instances = mapper(record)["instances"]
            boxes, points = instances.gt_boxes.tensor, instances.gt_keypoints.tensor[:, 1:]
            expected = boxes[:, [[0, 1], [2, 1], [0, 3], [2, 3]]]
            labeled = points[..., 2] > 0
            torch.testing.assert_close(points[..., :2][labeled], expected[labeled])
            assert not points[~labeled].any()
            counts += int(labeled.sum()), int((~labeled).sum())
    assert (counts > 20).all()


def test_only_training_has_keypoints(cfg):
    record = load_dataset(cfg.DATASETS.TEST[0]).record(0)
    assert "instances" not in DetectionMapper(cfg, is_train=False)(record)
    cfg.MODEL.KEYPOINT_ON = False
    assert not DetectionMapper(cfg, is_train=True)(record)["instances"].has("gt_keypoints")


def test_through_the_loaders(cfg):
    batch = next(iter(build_train_loader(cfg)))
    assert all(x["instances"].gt_keypoints.tensor.shape == (2, 5, 3) for x in batch)
    assert "instances" not in next(iter(build_test_loader(cfg, cfg.DATASETS.TEST[0])))[0]


# ---- what is filtered ------------------------------------------------------------------------


@pytest.mark.parametrize("minimum", [0, 1, 3, 8, 9])
def test_images_with_few_keypoints_are_skipped_as_by_detectron2(make_cfg, minimum, caplog):
    """Images have 8, 5, 0 labeled keypoints; image 4 has no objects."""
    content = face_content(4)
    content["annotations"] = content["annotations"][:6]
    for entry, visible in zip(
        content["annotations"][2:], [(1, 1, 1, 1, 1), *[(0,) * 5] * 3], strict=True
    ):
        entry.update(face(entry["bbox"], visible))
    cfg = make_cfg(content)
    setup_datasets(cfg)
    dataset = load_dataset(cfg.DATASETS.TRAIN[0])
    expected = [x["image_id"] for x in filter_images_with_few_keypoints(dataset.dicts(), minimum)]
    if not expected:
        with pytest.raises(DataError, match="no usable annotation.*fewer than 9 labeled keyp.*: 4"):
            filter_training_set(dataset, False, minimum)
        return
    caplog.set_level("INFO")
    kept = filter_training_set(dataset, False, minimum)
    assert kept.image_ids == expected
    assert len(kept.keypoints) == kept.num_boxes
    assert ("fewer than" in caplog.text) == (minimum > 0)
    cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE = minimum
    filtered = [i for i in expected if i != 4]
    assert build_train_loader(cfg).num_images == len(filtered)


# ---- flips that would be wrong ---------------------------------------------------------------


def rename(*names):
    content = face_content()
    content["categories"][0]["keypoints"] = list(names)
    return content


def test_names_that_do_not_pair(make_cfg):
    content = rename("nose", "left_eye", "eye_right", "a", "b")
    with pytest.raises(ConfigError, match="'left_eye' has no counterpart 'right_eye'") as error:
        setup_datasets(make_cfg(content))
    assert "INPUT.RANDOM_FLIP 'none'" in str(error.value) and "\n" not in str(error.value)
    cfg = make_cfg(content, "INPUT.RANDOM_FLIP", "none")
    setup_datasets(cfg)
    mapped = DetectionMapper(cfg, is_train=True)(load_dataset(cfg.DATASETS.TRAIN[0]).record(0))
    assert mapped["instances"].has("gt_keypoints")


def test_no_names(make_cfg):
    content = face_content()
    del content["categories"][0]["keypoints"]
    for flip in ("horizontal", "vertical"):
        with pytest.raises(ConfigError, match="names of its keypoints are not known"):
            setup_datasets(make_cfg(content, "INPUT.RANDOM_FLIP", flip))
    setup_datasets(make_cfg(content, "INPUT.RANDOM_FLIP", "none"))


def test_vertical_flips(make_cfg):
    """detectron2 exchanges nothing then, though a mirror does."""
    with pytest.raises(ConfigError, match="left_eye and right_eye of .*Set INPUT.RANDOM_FLIP"):
        setup_datasets(make_cfg(None, "INPUT.RANDOM_FLIP", "vertical"))
    setup_datasets(make_cfg(rename(*"abcde"), "INPUT.RANDOM_FLIP", "vertical"))


def test_what_flips_exchange_is_logged(make_cfg, caplog):
    caplog.set_level("INFO")
    setup_datasets(make_cfg())
    assert "flipped images exchange: left_eye and right_eye, left_ear and right_ear." in caplog.text
    caplog.clear()
    setup_datasets(make_cfg(rename(*"abcde")))
    (record,) = [x for x in caplog.records if "exchange no keypoints" in x.message]
    assert record.levelname == "WARNING"


def test_several_training_sets(cfg):
    """Lists and tuples, and either order in a pair, mean the same."""
    (name,) = cfg.DATASETS.TRAIN
    pairs = (("right_eye", "left_eye"), ("left_ear", "right_ear"))
    other = MetadataCatalog.get("other set")
    other.set(keypoint_names=tuple(NAMES), keypoint_flip_map=pairs)
    try:
        cfg.DATASETS.TRAIN = (name, "other set")
        assert DetectionMapper(cfg, is_train=True).flipped_keypoints == FLIPPED
        other.__dict__["keypoint_flip_map"] = pairs[:1]
        with pytest.raises(ConfigError, match="keypoint_flip_map of other set differs from that"):
            DetectionMapper(cfg, is_train=True)
    finally:
        MetadataCatalog.pop("other set")


def test_evaluation_alone_does_not_flip(make_cfg):
    cfg = make_cfg(rename("nose", "left_eye", "x", "y", "z"))
    setup_datasets(cfg, ("TEST",))
    DetectionMapper(cfg, is_train=False)


def test_the_metadata_decide(cfg):
    """As for a dataset that is registered with a map of its own."""
    metadata = MetadataCatalog.get(cfg.DATASETS.TRAIN[0])
    metadata.__dict__["keypoint_flip_map"] = [("nose", "left_eye")]
    assert DetectionMapper(cfg, is_train=True).flipped_keypoints == [1, 0, 2, 3, 4]
    metadata.__dict__["keypoint_flip_map"] = [("nose", "left_knee")]
    with pytest.raises(ConfigError, match="'left_knee', which is not one of its keypoint_names"):
        DetectionMapper(cfg, is_train=True)
    metadata.__dict__["keypoint_flip_map"] = [("nose", "left_eye"), ("nose", "right_eye")]
    with pytest.raises(ConfigError, match="exchanges 'nose' or 'right_eye' with another"):
        DetectionMapper(cfg, is_train=True)
    cfg.DATASETS.TRAIN = ()
    with pytest.raises(ConfigError, match=r"DATASETS\.TRAIN is empty"):
        DetectionMapper(cfg, is_train=True)
