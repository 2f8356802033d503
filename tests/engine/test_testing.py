"""Test-time augmentation in a training and in an evaluation."""

import json

import pytest
import torch

from tests.engine.helpers import read_metrics
from tests.export.helpers import make_confident
from tood.data import build_test_loader, setup_datasets
from tood.engine import Trainer
from tood.errors import ConfigError
from tood.evaluation import AlignmentEvaluator


@pytest.fixture
def cfg(quick_cfg):
    node = quick_cfg.TEST.AUG
    node.ENABLED, node.MIN_SIZES, node.MAX_SIZE, node.FLIP = True, (64, 96), 200, True
    quick_cfg.MODEL.TOOD.SCORE_THRESH_TEST = 0.0
    return quick_cfg


@pytest.fixture
def weights(cfg, tmp_path):
    """A checkpoint of a model that detects something; AP is not 0."""
    model = make_confident(Trainer.build_model(cfg))
    path = tmp_path / "weights.pth"
    torch.save(model.state_dict(), path)
    return str(path)


def boxes_in(folder):
    found = json.loads((folder / "coco_instances_results.json").read_text())
    assert len(found) > 20
    return sorted(found, key=lambda x: (x["image_id"], x["category_id"], -x["score"], x["bbox"]))


def assert_equal(found, expected):
    """Also where a class without ground truth has no AP."""
    assert found.keys() == expected.keys()
    assert found == pytest.approx(dict(expected), rel=0, abs=0, nan_ok=True)


def test_results_are_next_to_the_plain_ones(cfg, weights, tmp_path):
    """The plain ones do not change, and neither do the losses, which are of the plain pass."""
    cfg.MODEL.WEIGHTS, cfg.TEST.LOSS = weights, True
    both = Trainer.evaluate_checkpoint(cfg)
    found = [boxes_in(tmp_path / name) for name in ("inference", "inference_TTA")]
    cfg.TEST.AUG.ENABLED = False
    plain = Trainer.evaluate_checkpoint(cfg)
    assert sorted(both) == ["bbox", "bbox_TTA", "validation"]
    for task, results in plain.items():
        assert_equal(both[task], results)
    assert found[0] == boxes_in(tmp_path / "inference") != found[1]
    assert both["bbox_TTA"].keys() == both["bbox"].keys()


def test_identity_has_the_same_results(cfg, weights, tmp_path):
    cfg.MODEL.WEIGHTS = weights
    cfg.TEST.AUG.MIN_SIZES, cfg.TEST.AUG.FLIP = (cfg.INPUT.MIN_SIZE_TEST,), False
    results = Trainer.evaluate_checkpoint(cfg)
    assert_equal(results["bbox_TTA"], results["bbox"])
    assert boxes_in(tmp_path / "inference_TTA") == boxes_in(tmp_path / "inference")


def test_training_evaluates_both(cfg, tmp_path):
    """The average is evaluated, and the best checkpoint is chosen by the plain AP."""
    cfg.TEST.EVAL_PERIOD, cfg.SOLVER.EMA.ENABLED, cfg.SOLVER.EMA.EVAL_RAW = 3, True, True
    cfg.SOLVER.EMA.DECAY = 1.0  # of the start, which the training leaves
    cfg.SOLVER.EMA.RAMP_UP = 0
    cfg.TEST.AUG.MIN_SIZES, cfg.TEST.AUG.FLIP = (64,), False
    trainer = Trainer(cfg)
    trainer.train()
    rows = {key: value for row in read_metrics(tmp_path) for key, value in row.items()}
    for prefix in ("", "raw_"):
        assert rows[f"{prefix}bbox_TTA/AP"] == rows[f"{prefix}bbox/AP"]
        assert rows[f"{prefix}bbox_TTA/AP50"] == rows[f"{prefix}bbox/AP50"]
    averaged, raw = (boxes_in(tmp_path / name / "inference_TTA") for name in ("", "raw"))
    assert averaged == boxes_in(tmp_path / "inference") != raw
    assert raw == boxes_in(tmp_path / "raw/inference")
    best = next(h for h in trainer._hooks if hasattr(h, "best_value"))
    assert best.metric == "bbox/AP" and best.best_value is not None


def test_the_best_checkpoint_by_augmented_ap(cfg):
    cfg.TEST.BEST_METRIC = "bbox_TTA/AP50"
    trainer = Trainer(cfg)
    trainer.train()
    best = next(h for h in trainer._hooks if hasattr(h, "best_value"))
    assert best.best_value == trainer._last_eval_results["bbox_TTA"]["AP50"]


def test_several_test_sets(cfg, weights, tmp_path):
    cfg.MODEL.WEIGHTS = weights
    cfg.DATASETS.TEST = (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN)
    results = Trainer.evaluate_checkpoint(cfg)
    assert list(results) == list(cfg.DATASETS.TEST)
    assert all(sorted(tasks) == ["bbox", "bbox_TTA"] for tasks in results.values())
    assert len(list((tmp_path / "inference_TTA").iterdir())) == 2


def test_a_loader_of_ones_own(cfg, weights):
    """The views are made of what it gives."""
    seen = []

    class OwnTrainer(Trainer):
        @classmethod
        def build_test_loader(cls, cfg, dataset_name):
            loader = build_test_loader(cfg, dataset_name)
            seen.append(loader)
            return loader

    cfg.MODEL.WEIGHTS = weights
    cfg.INPUT.MIN_SIZE_TEST = 96
    own, plain = OwnTrainer.evaluate_checkpoint(cfg), Trainer.evaluate_checkpoint(cfg)
    assert len(seen) == 2
    assert_equal(own["bbox"], plain["bbox"])
    assert own["bbox_TTA"].keys() == plain["bbox_TTA"].keys()


def test_recorders_refuse_augmented_batches(cfg):
    """They would have the predictions for the last view alone."""
    model = Trainer.build_model(cfg).eval()
    (name,) = cfg.DATASETS.TEST
    evaluator = AlignmentEvaluator(name, model)
    evaluator.reset()
    x = next(iter(build_test_loader(cfg, name)))[0]
    x["views"] = [{"image": x["image"], "flipped": flipped} for flipped in (False, True)]
    with torch.no_grad(), pytest.raises(ConfigError, match="not with test-time augmentation"):
        evaluator.process([x], model([x]))


def test_detectron2s_own_for_two_stage_detectors(cfg, tmp_path):
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "RPN"
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = cfg.MODEL.TOOD.NUM_CLASSES
    cfg.MODEL.BACKBONE.NAME = "build_tiny_backbone"
    cfg.MODEL.RPN.IN_FEATURES = cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p3", "p4", "p5"]
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_BOX_HEAD.NAME, cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = "FastRCNNConvFCHead", 2
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC, cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 1, 16
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32], [64]]
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.MASK_ON = False
    model = Trainer.build_model(cfg).train()
    results = Trainer.test_with_TTA(cfg, model)
    assert list(results) == ["bbox_TTA"] and model.training
    assert len(boxes_in(tmp_path / "inference_TTA")) > 20


@pytest.mark.parametrize(
    "changes, message",
    [
        (["MODEL.META_ARCHITECTURE", "RetinaNet"], "Available with .* TOOD, GeneralizedRCNN"),
        (["MODEL.WEIGHTS", "model.onnx"], "an exported file has no test-time augmentation"),
        (["TEST.AUG.MIN_SIZES", []], r"MIN_SIZES is \(\), but must be a non-empty list"),
        (["TEST.AUG.MIN_SIZES", [-1]], "MIN_SIZES is .*integers from 0"),
        (["TEST.AUG.MAX_SIZE", 0], "MAX_SIZE is 0, but must be an integer from 1"),
    ],
)
def test_settings_that_cannot_work(cfg, changes, message):
    cfg.merge_from_list(changes)
    with pytest.raises(ConfigError, match=message):
        Trainer.evaluate_checkpoint(cfg)
    cfg.TEST.AUG.ENABLED = False
    setup_datasets(cfg)
