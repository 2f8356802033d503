"""Keypoints of a config's datasets: what is read, and what does not fit."""

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json, register_coco_instances
from detectron2.data.datasets.builtin_meta import _get_builtin_metadata

from tests.data.keypoint_files import (
    NAMES,
    SIGMAS,
    face,
    face_content,
    keypoint_rcnn_cfg,
    write_faces,
)
from tood.data import setup_datasets
from tood.data.catalog import load_dataset
from tood.data.dataset import concatenate
from tood.data.keypoints import oks_sigmas
from tood.data.mapper import DetectionMapper
from tood.errors import ConfigError, DataError

pytestmark = pytest.mark.usefixtures("clean_catalogs")


@pytest.fixture
def cfg(tmp_path):
    return keypoint_rcnn_cfg(write_faces(tmp_path), tmp_path)


def train_set(cfg):
    return load_dataset(cfg.DATASETS.TRAIN[0])


# ---- what is read ----------------------------------------------------------------------------


def test_arrays(cfg):
    setup_datasets(cfg)
    dataset = train_set(cfg)
    assert dataset.keypoints.shape == (6, 5, 3) and dataset.keypoints.dtype == np.float32
    assert dataset.keypoint_names == NAMES and not dataset.changes.counts
    metadata = MetadataCatalog.get(cfg.DATASETS.TRAIN[0])
    assert metadata.keypoint_names == NAMES
    assert metadata.keypoint_flip_map == [("left_eye", "right_eye"), ("left_ear", "right_ear")]


def test_back_to_coco(cfg, tmp_path):
    """The ground truth of the evaluation is that of the file."""
    content = face_content()
    content["annotations"][0]["keypoints"][0] += 0.25
    write_faces(tmp_path, content)
    setup_datasets(cfg)
    for ours, entry in zip(
        train_set(cfg).to_coco()["annotations"], content["annotations"], strict=True
    ):
        assert ours["keypoints"] == entry["keypoints"]
        assert ours["num_keypoints"] == entry["num_keypoints"] == 4


def test_selected_and_joined_with_their_boxes(cfg):
    setup_datasets(cfg)
    dataset = train_set(cfg)
    some = dataset.select_images(np.array([False, True, False]))
    np.testing.assert_array_equal(some.keypoints, dataset.keypoints[2:4])
    both = concatenate([some, dataset])
    np.testing.assert_array_equal(both.keypoints[2:], dataset.keypoints)
    assert both.keypoint_names == NAMES


def test_not_read_unless_asked_for(cfg):
    cfg.MODEL.KEYPOINT_ON = False
    setup_datasets(cfg)
    dataset = train_set(cfg)
    assert dataset.keypoints is None and "keypoints" not in dataset.record(0)["annotations"][0]
    assert not dataset.keypoint_names
    assert MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).get("keypoint_names") is None
    cfg.MODEL.KEYPOINT_ON = True
    setup_datasets(cfg)
    assert train_set(cfg).keypoints is not None


# ---- registered datasets ---------------------------------------------------------------------


def use_registered(cfg, name="faces"):
    for split in ("TRAIN", "TEST"):
        cfg.DATASETS[f"{split}_ANNOTATIONS"] = cfg.DATASETS[f"{split}_IMAGES"] = ""
        cfg.DATASETS[split] = (name,)
    setup_datasets(cfg)
    return load_dataset(name), MetadataCatalog.get(name)


def test_registered_files(cfg, tmp_path, caplog):
    path = cfg.DATASETS.TRAIN_ANNOTATIONS
    setup_datasets(cfg)
    expected = train_set(cfg).keypoints
    register_coco_instances("faces", {}, path, str(tmp_path))
    dataset, metadata = use_registered(cfg)
    np.testing.assert_array_equal(dataset.keypoints, expected)
    assert metadata.keypoint_names == NAMES and len(metadata.keypoint_flip_map) == 2
    names = ["nose", "a", "b", "c", "d"]
    register_coco_instances(
        "other", {"keypoint_names": names, "keypoint_flip_map": [("a", "b")]}, path, str(tmp_path)
    )
    dataset, metadata = use_registered(cfg, "other")
    assert dataset.keypoint_names == metadata.keypoint_names == names
    assert metadata.keypoint_flip_map == [("a", "b")]
    assert (
        "other has the keypoints nose, a, b, c, d, but its file has nose, left_eye" in caplog.text
    )


def test_persons_of_coco(cfg, tmp_path):
    """As keypoints_coco_2017_train is registered; the file has the same names."""
    metadata = _get_builtin_metadata("coco_person")
    content = face_content()
    content["categories"][0]["keypoints"] = list(metadata["keypoint_names"])
    for entry in content["annotations"]:
        entry.update(keypoints=[20, 30, 2] * 17, num_keypoints=17)
    register_coco_instances("persons", metadata, write_faces(tmp_path, content), str(tmp_path))
    cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS, cfg.TEST.KEYPOINT_OKS_SIGMAS = 17, []
    dataset, published = use_registered(cfg, "persons")
    assert dataset.keypoints.shape == (6, 17, 3)
    assert published.keypoint_flip_map == metadata["keypoint_flip_map"]
    flipped = DetectionMapper(cfg, is_train=True).flipped_keypoints
    assert flipped == [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]


def test_masks_too(cfg, tmp_path):
    """An object with an invalid mask is left out with its keypoints, whoever reads the file."""
    content = face_content()
    for number, entry in enumerate(content["annotations"]):
        x, y, _, _ = entry["bbox"]
        entry["segmentation"] = [[x, y, x + 9, y, x, y + 9]] if number != 2 else [[x, y, x + 9, y]]
    path = write_faces(tmp_path, content)
    setup_datasets(cfg)
    expected = np.delete(train_set(cfg).keypoints, 2, axis=0)
    cfg.MODEL.MASK_ON = True
    setup_datasets(cfg)
    np.testing.assert_array_equal(train_set(cfg).keypoints, expected)
    dicts = load_coco_json(path, str(tmp_path), "faces")
    DatasetCatalog.register("faces", lambda: dicts)
    MetadataCatalog.get("faces").keypoint_names = NAMES
    np.testing.assert_array_equal(use_registered(cfg)[0].keypoints, expected)


def test_registered_functions(cfg):
    """Their coordinates are detectron2's already; shapes and types vary."""
    setup_datasets(cfg)
    dicts = train_set(cfg).dicts()
    annotations = [entry for record in dicts for entry in record["annotations"]]
    annotations[0]["keypoints"] = np.array(annotations[0]["keypoints"])
    annotations[1]["keypoints"] = np.array(annotations[1]["keypoints"]).reshape(5, 3).tolist()
    annotations[2]["keypoints"] = tuple(np.float32(x) for x in annotations[2]["keypoints"])
    del annotations[3]["keypoints"]
    expected = train_set(cfg).keypoints.copy()
    expected[3] = 0
    DatasetCatalog.register("faces", lambda: dicts)
    with pytest.raises(ConfigError, match="faces does not say .* its keypoints are not known"):
        use_registered(cfg)
    MetadataCatalog.get("faces").keypoint_names = NAMES
    dataset, metadata = use_registered(cfg)
    np.testing.assert_array_equal(dataset.keypoints, expected)
    assert dict(metadata.keypoint_flip_map) == {"left_eye": "right_eye", "left_ear": "right_ear"}
    annotations[4]["keypoints"] = [1.0, 2.0]
    DatasetCatalog.remove("faces")
    DatasetCatalog.register("faces", lambda: list(dicts))
    with pytest.raises(DataError, match=r"a box of .*3\.png: its keypoints have 2 values"):
        use_registered(cfg)


def test_registered_metadata_of_another_number(cfg, tmp_path):
    register_coco_instances(
        "faces", {"keypoint_names": ["a", "b"]}, cfg.DATASETS.TRAIN_ANNOTATIONS, str(tmp_path)
    )
    with pytest.raises(ConfigError, match=r"faces has 2 keypoints \(a, b\).*NUM_KEYPOINTS is 5"):
        use_registered(cfg)


# ---- what does not fit -----------------------------------------------------------------------


def test_another_number_of_keypoints(cfg):
    cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 17
    with pytest.raises(ConfigError, match=r"'face' of .*a\.json has 5 keypoints.*is 17.*Set .* 5"):
        setup_datasets(cfg)
    cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 0
    with pytest.raises(ConfigError, match="NUM_KEYPOINTS is 0, but must be an integer from 1"):
        setup_datasets(cfg)


def test_files_without_keypoints(cfg, tmp_path):
    content = face_content()
    for entry in content["annotations"]:
        del entry["keypoints"]
    write_faces(tmp_path, content)
    with pytest.raises(
        DataError, match=r"no labeled keypoints, .*person_keypoints_train2017\.json"
    ):
        setup_datasets(cfg)
    crowd = face([1, 1, 9, 9])
    content["annotations"].append({**crowd, "id": 99, "image_id": 1, "iscrowd": 1})
    write_faces(tmp_path, content)
    with pytest.raises(DataError, match="no labeled keypoints"):
        setup_datasets(cfg)


def test_other_formats(cfg, tmp_path):
    (tmp_path / "data.yaml").write_text("train: .\nnames: [face]\n")
    cfg.DATASETS.TRAIN_ANNOTATIONS = str(tmp_path / "data.yaml")
    with pytest.raises(ConfigError, match="has the format 'yolo', of which .* keypoints: coco"):
        setup_datasets(cfg)


@pytest.mark.parametrize(
    "opts, message",
    [
        (["INPUT.MOSAIC.ENABLED", True], "INPUT.MOSAIC.ENABLED is True, but MODEL.KEYPOINT_ON"),
        (["INPUT.MIXUP.ENABLED", True], "keypoints of several images are not put together"),
        (["MODEL.META_ARCHITECTURE", "TOOD"], "TOOD predicts boxes only"),
        (
            ["TEST.KEYPOINT_OKS_SIGMAS", []],
            "is empty, which means COCO's 17, but there are 5",
        ),
        (["TEST.KEYPOINT_OKS_SIGMAS", [0.1] * 4], "has 4 values, but there are 5 keypoints"),
        (["TEST.KEYPOINT_OKS_SIGMAS", [0.1] * 4 + [0]], "must be numbers above 0"),
    ],
)
def test_keys_that_do_not_fit(cfg, opts, message):
    cfg.merge_from_list(opts)
    with pytest.raises(ConfigError, match=message):
        setup_datasets(cfg)


def test_sigmas_do_not_matter_without_evaluation(cfg):
    cfg.TEST.KEYPOINT_OKS_SIGMAS = []
    cfg.DATASETS.TEST_ANNOTATIONS = cfg.DATASETS.TEST_IMAGES = ""
    cfg.DATASETS.TEST = ()
    setup_datasets(cfg)


def test_sigmas():
    assert oks_sigmas(SIGMAS, 5) == SIGMAS
    default = oks_sigmas([], 17)
    assert default[:2] == pytest.approx([0.026, 0.025]) and len(default) == 17


def test_sets_with_other_keypoints(cfg, tmp_path):
    content = face_content()
    content["categories"][0]["keypoints"] = [*NAMES[:3], "right_ear", "left_ear"]
    cfg.DATASETS.TEST_ANNOTATIONS = write_faces(tmp_path, content, "test.json")
    with pytest.raises(ConfigError, match="must have the same keypoints in the same order"):
        setup_datasets(cfg)
