"""detectron2's Keypoint R-CNN, trained and evaluated with this project's trainer and data."""

import json
import math
import warnings

import pytest
import torch
from detectron2.utils.events import EventStorage

from tests.data.keypoint_files import (
    NAMES,
    SIDE,
    SIGMAS,
    face,
    face_content,
    keypoint_rcnn_cfg,
    write_faces,
)
from tests.engine.helpers import read_metrics
from tests.engine.test_two_stage import NARROW
from tests.helpers import CONFIGS
from tood.config.loading import load_config
from tood.data import setup_datasets
from tood.data.mapper import DetectionMapper
from tood.data.registration import load_dataset
from tood.engine import Trainer


@pytest.fixture
def train(tmp_path):
    """Trains for two steps on a content, and returns the rows of ``metrics.json``."""

    def run(content, *opts):
        cfg = keypoint_rcnn_cfg(write_faces(tmp_path, content), tmp_path)
        cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS = 2, ()
        cfg.merge_from_list(list(opts))
        setup_datasets(cfg)
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=False)
        trainer.train()
        return read_metrics(tmp_path / "out")

    return run


def losses(rows, name="loss_keypoint"):
    return [row[name] for row in rows if name in row]


def test_training_and_evaluation(train, tmp_path):
    rows = train(face_content())
    assert losses(rows) and all(math.isfinite(x) and x > 0 for x in losses(rows))
    assert 0 <= rows[-1]["bbox/AP"] <= 100 and 0 <= rows[-1]["keypoints/AP"] <= 100
    path = tmp_path / "out" / "inference" / "coco_instances_results.json"
    entries = json.loads(path.read_text())
    assert {len(entry["keypoints"]) for entry in entries} == {3 * len(NAMES)}


def test_on_proposals_of_tood(tmp_path):
    """The config for COCO's persons, with other data."""
    faces = keypoint_rcnn_cfg(write_faces(tmp_path), tmp_path)
    opts = [*NARROW.split(), "MODEL.WEIGHTS", "", "OUTPUT_DIR", str(tmp_path / "out")]
    opts += ["MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", (8,), "TEST.KEYPOINT_OKS_SIGMAS", SIGMAS]
    opts += ["MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", 5]
    cfg = load_config(str(CONFIGS / "two_stage" / "TOOD-KeypointRCNN-R50-1x.yaml"), opts)
    cfg.DATASETS, cfg.INPUT.MIN_SIZE_TRAIN = faces.DATASETS, (SIDE,)
    setup_datasets(cfg)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    rows = read_metrics(tmp_path / "out")
    assert all(math.isfinite(x) and x > 0 for x in losses(rows))
    assert 0 <= rows[-1]["keypoints/AP"] <= 100


def test_images_without_anything_to_learn(tmp_path):
    """The keypoint loss is 0, not NaN, where no image of a batch has a keypoint."""
    content = face_content(4)
    content["annotations"] = content["annotations"][:6]  # image 4 has no object
    for entry in content["annotations"][2:4]:  # of image 2, nothing is labeled
        entry.update(face(entry["bbox"], (0,) * 5))
    for entry in content["annotations"][4:]:  # nor of image 3, in other words
        del entry["keypoints"], entry["num_keypoints"]
    cfg = keypoint_rcnn_cfg(write_faces(tmp_path, content), tmp_path)
    setup_datasets(cfg)
    model = Trainer.build_model(cfg).train()
    mapper = DetectionMapper(cfg, is_train=True)
    images = [mapper(record) for record in load_dataset(cfg.DATASETS.TRAIN[0])]
    for batch, is_zero in (([3], True), ([1], True), ([2], True), ([1, 3], True), ([0, 3], False)):
        with EventStorage(), warnings.catch_warnings():
            # detectron2 logs how many boxes it drew per image with any: the mean of none.
            warnings.simplefilter("ignore", RuntimeWarning)
            losses = model([images[index] for index in batch])
        assert (losses["loss_keypoint"] == 0) == is_zero, batch
        total = sum(losses.values())
        assert torch.isfinite(total)
        total.backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_trained_without_filters(train):
    """Two batches, of which one has no keypoint."""
    content = face_content(2)
    for entry in content["annotations"][2:]:
        entry.update(face(entry["bbox"], (0,) * 5))
    head = "MODEL.ROI_KEYPOINT_HEAD"
    rows = train(content, "SOLVER.IMS_PER_BATCH", 1, f"{head}.MIN_KEYPOINTS_PER_IMAGE", 0)
    assert all(math.isfinite(x) for x in losses(rows, "total_loss"))
