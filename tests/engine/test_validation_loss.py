"""TEST.LOSS in a training and in an evaluation."""

import json

import pytest
import torch

from tests.engine.helpers import read_metrics
from tood.data import build_test_loader, setup_datasets
from tood.engine import Trainer
from tood.errors import ConfigError


def test_losses_are_next_to_those_of_training(quick_cfg, tmp_path):
    """In metrics.json and TensorBoard; the training itself does not change."""
    quick_cfg.MODEL.TOOD.SCORE_THRESH_TEST = 0.0
    quick_cfg.TEST.EVAL_PERIOD = 2
    weights = []
    for name in ("with", "without"):
        quick_cfg.TEST.LOSS = name == "with"
        quick_cfg.TEST.BEST_METRIC = "validation/total_loss" if quick_cfg.TEST.LOSS else "bbox/AP"
        quick_cfg.OUTPUT_DIR = str(tmp_path / name)
        torch.manual_seed(1)
        trainer = Trainer(quick_cfg)
        trainer.train()
        weights.append(trainer.model.state_dict())
    assert all(torch.equal(weights[0][name], value) for name, value in weights[1].items())
    merged = {k: v for row in read_metrics(tmp_path / "with") for k, v in row.items()}
    names = ("total_loss", "loss_cls", "loss_box_reg")
    assert all(merged[f"validation/{name}"] > 0 for name in names) and merged["bbox/AP"] >= 0
    assert merged["validation/total_loss"] == pytest.approx(
        merged["validation/loss_cls"] + merged["validation/loss_box_reg"]
    )
    assert not any("validation" in k for row in read_metrics(tmp_path / "without") for k in row)
    events = b"".join(x.read_bytes() for x in (tmp_path / "with").glob("events.*"))
    assert b"validation/total_loss" in events
    # An evaluation of the checkpoint finds the same, in the phase of the checkpoint.
    quick_cfg.TEST.LOSS = True
    quick_cfg.MODEL.WEIGHTS = str(tmp_path / "with" / "model_final.pth")
    results = Trainer.evaluate_checkpoint(quick_cfg)
    assert results["validation"]["total_loss"] == pytest.approx(merged["validation/total_loss"])
    state = torch.load(tmp_path / "with" / "model_final.pth", weights_only=True)
    best = state["trainer"]["hooks"]["BestCheckpointHook"]
    assert best["best_value"] > 0 and best["metric"] == "validation/total_loss"


def test_ground_truth_is_that_of_training(quick_cfg, shapes, tmp_path):
    """Resized with the image, without crowds and boxes that training skips."""
    content = json.loads((shapes / "val.json").read_text())
    content["annotations"] = [
        {"id": i, "image_id": content["images"][0]["id"], "category_id": 1, **entry}
        for i, entry in enumerate(
            [
                {"bbox": [8, 8, 16, 24], "area": 384, "iscrowd": 0},
                {"bbox": [8, 8, 16, 24], "area": 384, "iscrowd": 1},
                {"bbox": [8, 8, 0.5, 24], "area": 12, "iscrowd": 0},
                {"bbox": [80, 8, 9, 9], "area": 81, "iscrowd": 0},
            ],
            1,
        )
    ]
    path = tmp_path / "val.json"
    path.write_text(json.dumps(content))
    quick_cfg.DATASETS.TEST_ANNOTATIONS = str(path)
    quick_cfg.INPUT.MIN_SIZE_TEST = 128
    setup_datasets(quick_cfg)
    (name,) = quick_cfg.DATASETS.TEST
    assert "instances" not in next(iter(build_test_loader(quick_cfg, name)))[0]
    quick_cfg.TEST.LOSS = True
    first, second = (batch[0]["instances"] for batch in build_test_loader(quick_cfg, name))
    assert first.gt_boxes.tensor.tolist() == [[16, 16, 48, 64]]
    assert first.gt_classes.tolist() == [0] and len(second) == 0


def test_other_detectors_are_refused(quick_cfg):
    quick_cfg.MODEL.META_ARCHITECTURE, quick_cfg.TEST.LOSS = "RetinaNet", True
    with pytest.raises(ConfigError, match="TEST.LOSS is True, but MODEL.META_ARCHITECTURE is Ret"):
        Trainer(quick_cfg)
