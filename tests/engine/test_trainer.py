"""Real training runs on the synthetic shapes."""

import json
import logging

import pytest
from detectron2.engine import DefaultTrainer

from tests.engine.helpers import read_metrics
from tood.data import build_train_loader, setup_datasets
from tood.engine import PhaseHook, Trainer, TrainingDivergedError
from tood.errors import ConfigError


def test_training_evaluation_and_files(run_cfg, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    run_cfg.SOLVER.MAX_ITER = 20
    trainer = Trainer(run_cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert trainer.model.phase == "aligned"
    assert "Training on 8 images after filtering, 5 classes" in caplog.text
    assert "until iteration 4 of 20" in caplog.text
    assert caplog.text.count("Iteration 4: the aligned phase begins") == 1
    assert "  aligned" in caplog.text
    merged = {k: v for row in read_metrics(tmp_path) for k, v in row.items()}
    assert {"total_loss", "loss_cls", "loss_box_reg", "phase_aligned", "bbox/AP"} <= set(merged)
    assert {"assign/pos_per_gt", "assign/gt_without_pos_frac"} <= set(merged)
    assert (tmp_path / "model_final.pth").is_file()
    assert any(f.name.startswith("events.out.tfevents") for f in tmp_path.iterdir())

    run_cfg.MODEL.WEIGHTS = str(tmp_path / "model_final.pth")
    results = Trainer.evaluate_checkpoint(run_cfg)
    again = Trainer.evaluate_checkpoint(run_cfg, resume=True)
    assert again["bbox"]["AP"] == results["bbox"]["AP"]
    assert results["bbox"]["AP"] == pytest.approx(merged["bbox/AP"], nan_ok=True)


def test_reference_world_size(run_cfg):
    """Written for 4 processes, run by 1: batch / 4, iterations and warm-up phase x 4."""
    run_cfg.SOLVER.REFERENCE_WORLD_SIZE = 4
    run_cfg.SOLVER.IMS_PER_BATCH = 8
    trainer = Trainer(run_cfg)
    assert trainer.cfg.SOLVER.IMS_PER_BATCH == 2
    assert trainer.max_iter == 24
    (hook,) = [h for h in trainer._hooks if isinstance(h, PhaseHook)]
    assert hook.warmup_iters == 4  # one epoch of 8 images, 2 at a time


def test_text_ids_train_and_evaluate(run_cfg, shapes, tmp_path):
    """Category ids as text, which CATEGORY_IDS of the config then has."""
    for split, name in (("TRAIN", "train"), ("TEST", "val")):
        content = json.loads((shapes / f"{name}.json").read_text())
        for category in content["categories"]:
            category["id"] = f"c{category['id']}"
        for annotation in content["annotations"]:
            annotation["category_id"] = f"c{annotation['category_id']}"
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(content))
        run_cfg.DATASETS[f"{split}_ANNOTATIONS"] = str(path)
    setup_datasets(run_cfg)
    assert run_cfg.MODEL.TOOD.CATEGORY_IDS == ["c1", "c2", "c3", "c4", "c5"]
    run_cfg.SOLVER.MAX_ITER, run_cfg.MODEL.TOOD.SCORE_THRESH_TEST = 1, 0.0
    Trainer(run_cfg).train()
    (results,) = tmp_path.rglob("coco_instances_results.json")
    assert json.loads(results.read_text())[0]["category_id"] in run_cfg.MODEL.TOOD.CATEGORY_IDS


def test_own_train_loader(run_cfg):
    """A subclass may build its own loader; without its number of images it says what to return."""

    class Plain(Trainer):
        @classmethod
        def build_train_loader(cls, cfg):
            return DefaultTrainer.build_train_loader(cfg)

    with pytest.raises(TypeError, match=r"return tood\.data\.TrainLoader\(loader, num_images\)"):
        Plain(run_cfg)
    assert Trainer(run_cfg).num_train_images == build_train_loader(run_cfg).num_images == 8


def test_other_detectors_have_no_phases(run_cfg, caplog):
    caplog.set_level(logging.INFO)
    run_cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    run_cfg.MODEL.RETINANET.NUM_CLASSES = 5
    run_cfg.MODEL.RETINANET.NUM_CONVS = 1
    run_cfg.SOLVER.MAX_ITER = 1
    run_cfg.DATASETS.TEST = ()
    trainer = Trainer(run_cfg)
    assert not any(isinstance(h, PhaseHook) for h in trainer._hooks)
    trainer.train()
    assert "Training on 8 images after filtering\n" in caplog.text
    assert "no evaluation" in caplog.text
    assert " phase" not in caplog.text


@pytest.mark.parametrize(
    "changes, message",
    [
        (["TEST.AUG.ENABLED", True, "TEST.AUG.MIN_SIZES", []], "TEST.AUG.MIN_SIZES"),
        (["SOLVER.AMP.ENABLED", True], "SOLVER.AMP.ENABLED is True, but MODEL.DEVICE is cpu"),
        (["MODEL.TOOD.WARMUP.EPOCHS", -1], "WARMUP.EPOCHS is -1"),
        (["SOLVER.REFERENCE_WORLD_SIZE", 8], "add SOLVER.REFERENCE_WORLD_SIZE 0"),
    ],
)
def test_settings_that_cannot_work(run_cfg, changes, message):
    run_cfg.merge_from_list(changes)
    with pytest.raises(ConfigError, match=message):
        Trainer(run_cfg)


def test_evaluation_settings_that_cannot_work(run_cfg):
    run_cfg.DATASETS.TEST = ()
    with pytest.raises(ConfigError, match="nothing to evaluate on"):
        Trainer.evaluate_checkpoint(run_cfg)


@pytest.mark.parametrize("warmup_epochs", [0, 1])
def test_divergence_gives_advice(run_cfg, warmup_epochs):
    """A learning rate far too large, in either phase: no error from inside of torch."""
    run_cfg.SOLVER.BASE_LR, run_cfg.SOLVER.WARMUP_ITERS = 1e8, 0
    run_cfg.SOLVER.MAX_ITER = 40
    run_cfg.MODEL.TOOD.WARMUP.EPOCHS = warmup_epochs * 20
    with pytest.raises(TrainingDivergedError, match="(.|\n)*SOLVER.BASE_LR"):
        Trainer(run_cfg).train()


def test_optimizer_decays_norms_and_biases(run_cfg):
    trainer = Trainer(run_cfg)
    decays = {group["weight_decay"] for group in trainer.optimizer.param_groups}
    assert decays == {run_cfg.SOLVER.WEIGHT_DECAY} == {1e-4}
