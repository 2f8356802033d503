"""Training and evaluation of detectors on TOOD's proposals, by the same engine."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode

from tests.engine.helpers import read_metrics, train_without_tests
from tests.helpers import CONFIGS
from tests.modeling.two_stage import to_two_stage
from tood.config.loading import load_config
from tood.data import setup_datasets
from tood.data.registration import load_dataset
from tood.engine import Trainer
from tood.errors import ConfigError, ExportError
from tood.export.networks import require_exportable
from tood.inference import Detector
from tood.modeling import TOODProposalNetwork, find_dense_core

HEADS = ["TOODStandardROIHeads", "TOODCascadeROIHeads"]
CONFIG_NAMES = sorted(
    path.stem for path in (CONFIGS / "two_stage").glob("*.yaml") if not path.stem.startswith("Base")
)
# Of a model that is built in a moment.
NARROW = """
    MODEL.DEVICE cpu MODEL.RESNETS.DEPTH 18 MODEL.RESNETS.RES2_OUT_CHANNELS 64
    MODEL.FPN.OUT_CHANNELS 64 MODEL.TOOD.HEAD.CHANNELS 64 MODEL.TOOD.HEAD.NUM_CONVS 2
    MODEL.ROI_BOX_HEAD.FC_DIM 32 MODEL.ROI_MASK_HEAD.CONV_DIM 16 MODEL.ROI_MASK_HEAD.NUM_CONV 1
    SOLVER.REFERENCE_WORLD_SIZE 0 SOLVER.IMS_PER_BATCH 2 SOLVER.MAX_ITER 2 DATALOADER.NUM_WORKERS 0
    TEST.EVAL_PERIOD 0 TEST.REPORT False MODEL.TOOD.WARMUP.EPOCHS 0.25 INPUT.MIN_SIZE_TEST 64
"""


@pytest.fixture(params=HEADS)
def cfg(quick_cfg: CfgNode, request) -> CfgNode:
    return to_two_stage(quick_cfg, request.param)


def equal_states(a, b) -> bool:
    return all(torch.equal(value, b[key]) for key, value in a.items())


def test_resume(cfg, tmp_path):
    """Phases, EMA, accumulation and statistics as without the stop, in each bit."""
    cfg.SOLVER.EMA.ENABLED, cfg.SOLVER.ACCUMULATE = True, 2
    cfg.OUTPUT_DIR = str(tmp_path / "whole")
    whole = train_without_tests(cfg)
    assert find_dense_core(whole.model).phase == "aligned"
    cfg.OUTPUT_DIR = str(tmp_path / "stopped")
    stopped = train_without_tests(cfg, until=3)
    assert find_dense_core(stopped.model).phase == "warmup"
    resumed = train_without_tests(cfg, resume=True)
    assert resumed.start_iter == 3
    assert equal_states(whole.model.state_dict(), resumed.model.state_dict())
    average = [torch.load(tmp_path / x / "model_final.pth")["model"] for x in ("whole", "stopped")]
    assert equal_states(*average)


def test_what_is_logged(cfg, tmp_path):
    """Losses of both stages, and the assignment of the first."""
    cfg.SOLVER.MAX_ITER = 20
    train_without_tests(cfg)
    last = read_metrics(tmp_path)[-1]
    assert {"loss_tood_cls", "loss_tood_box_reg", "total_loss"} <= last.keys()
    assert any(key.startswith("loss_cls") for key in last)
    assert any(key.startswith("assign/") for key in last)
    total = sum(value for key, value in last.items() if key.startswith("loss_"))
    assert last["total_loss"] == pytest.approx(total, rel=0.05)


def test_number_of_classes_comes_from_the_data(tiny_cfg, shapes):
    """That of both stages, if both are still the default."""
    cfg = to_two_stage(tiny_cfg)
    cfg.DATASETS.TRAIN_ANNOTATIONS = cfg.DATASETS.TEST_ANNOTATIONS = str(shapes / "train.json")
    cfg.DATASETS.TRAIN_IMAGES = cfg.DATASETS.TEST_IMAGES = str(shapes / "images")
    cfg.MODEL.TOOD.NUM_CLASSES = cfg.MODEL.ROI_HEADS.NUM_CLASSES = 80
    setup_datasets(cfg)
    assert cfg.MODEL.TOOD.NUM_CLASSES == cfg.MODEL.ROI_HEADS.NUM_CLASSES == 5
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 4
    with pytest.raises(ConfigError, match="MODEL.ROI_HEADS.NUM_CLASSES is 4"):
        Trainer(cfg)


# tests/engine/test_keypoints.py trains the config with keypoints.
@pytest.mark.parametrize("name", [name for name in CONFIG_NAMES if "Keypoint" not in name])
def test_configs(name, run_cfg, tmp_path):
    """Two steps, one in each phase, an evaluation, and detections of the trained model."""
    path, has_masks = str(CONFIGS / "two_stage" / f"{name}.yaml"), "Mask" in name
    cfg = load_config(path, [*NARROW.split(), "MODEL.WEIGHTS", "", "OUTPUT_DIR", str(tmp_path)])
    cfg.DATASETS, cfg.INPUT.MIN_SIZE_TRAIN = copy.deepcopy(run_cfg.DATASETS), (64,)
    setup_datasets(cfg)
    trainer = Trainer(cfg)
    assert isinstance(trainer.model.proposal_generator, TOODProposalNetwork)
    trainer.resume_or_load(False)
    trainer.train()
    assert set(trainer._last_eval_results) == ({"bbox", "segm"} if has_masks else {"bbox"})
    detector = Detector.from_pretrained(tmp_path / "model_final.pth")
    image = next(Path(cfg.DATASETS.TEST_IMAGES).iterdir())
    detections = detector(image, score_threshold=0.05)
    assert (detections.mask is not None) == has_masks
    assert set(detections.class_names) <= {"circle", "square", "triangle", "star", "cross"}


def test_test_time_augmentation(cfg, tmp_path):
    """Of boxes and masks, by detectron2's GeneralizedRCNNWithTTA."""
    cfg.MODEL.MASK_ON = True
    setup_datasets(cfg)
    node = cfg.TEST.AUG
    node.ENABLED, node.MIN_SIZES, node.MAX_SIZE, node.FLIP = True, (64, 96), 200, True
    cfg.SOLVER.MAX_ITER = 2
    trainer = Trainer(cfg)
    trainer.resume_or_load(False)
    trainer.train()
    assert set(trainer._last_eval_results) == {"bbox", "segm", "bbox_TTA", "segm_TTA"}


def test_detections_have_no_keypoints(tiny_cfg, caplog):
    """Which is said once, when the detector is built."""
    cfg = to_two_stage(tiny_cfg)
    Detector(Trainer.build_model(cfg).eval(), cfg)
    assert "keypoints" not in caplog.text
    cfg.MODEL.KEYPOINT_ON = True
    Detector(Trainer.build_model(cfg).eval(), cfg)
    assert "The model predicts keypoints, but Detections hold boxes and masks" in caplog.text


def test_augmentation_has_no_keypoints(cfg):
    cfg.TEST.AUG.ENABLED = cfg.MODEL.KEYPOINT_ON = True
    with pytest.raises(ConfigError, match="has no keypoints"):
        Trainer.evaluate_checkpoint(cfg)


def test_validation_losses_need_a_detector_of_one_stage(cfg):
    cfg.TEST.LOSS = True
    with pytest.raises(ConfigError, match="TEST.LOSS is True"):
        Trainer(cfg)


def test_no_export(cfg):
    with pytest.raises(ExportError, match="A GeneralizedRCNN cannot be exported"):
        require_exportable(Trainer.build_model(cfg).eval())


def test_proposals_alone(quick_cfg, tmp_path):
    """Trained and evaluated by ProposalNetwork; the file has the ids of the dataset's images."""
    cfg = to_two_stage(quick_cfg)
    cfg.MODEL.META_ARCHITECTURE, cfg.SOLVER.MAX_ITER = "ProposalNetwork", 2
    trainer = Trainer(cfg)
    trainer.resume_or_load(False)
    trainer.train()
    results = trainer._last_eval_results["box_proposals"]
    assert 0 <= results["AR@100"] <= 100
    contents = pickle.loads((tmp_path / "inference" / "box_proposals.pkl").read_bytes())
    images = load_dataset(cfg.DATASETS.TEST[0])
    assert sorted(contents["ids"]) == sorted(images.image_ids)
    assert len(contents["boxes"]) == len(contents["objectness_logits"]) == len(images)
    with pytest.raises(ConfigError, match="A ProposalNetwork detects no objects"):
        Detector(trainer.model.eval(), cfg)(torch.zeros(3, 64, 64, dtype=torch.uint8))
