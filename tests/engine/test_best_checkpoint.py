"""model_best.pth of real trainings, whose evaluations return what a test says."""

import os
from pathlib import Path
from unittest import mock

import pytest
import torch

from tests.engine.helpers import train_with_results
from tood import Detector
from tood.checkpoint.info import read_info
from tood.checkpoint.resuming import find_last_checkpoint
from tood.engine import Trainer
from tood.engine.run_folder import holds_training
from tood.errors import CheckpointError


def load(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def equal(a: dict, b: dict) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture
def cfg(quick_cfg):
    """Evaluations after iterations 1, 3 and 5, which is the last one."""
    quick_cfg.TEST.EVAL_PERIOD = 2
    quick_cfg.SOLVER.CHECKPOINT_PERIOD = 100
    return quick_cfg


@pytest.mark.parametrize("values, best", [([0.1, 0.3, 0.2], 3), ([0.1, 0.3, 0.4], 5)])
def test_best_of_all_evaluations(cfg, tmp_path, values, best):
    """It is the checkpoint of its iteration, and the run resumes from another one."""
    train_with_results(cfg, values)
    found = load(tmp_path / "model_best.pth")
    same = load(tmp_path / ("model_final.pth" if best == 5 else "model_0000003.pth"))
    assert found["iteration"] == found["trainer"]["iteration"] == best
    assert not found["trainer"]["hooks"]["ResumableEvalHook"]["is_due"]
    assert found.keys() == same.keys() and equal(found["model"], same["model"])
    info, expected = (read_info(x, "") for x in (found, same))
    assert info == expected and info.iteration == best and info.class_names
    assert info.phase == ("warmup" if best == 3 else "aligned")
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


def test_detection_takes_the_best_and_a_resume_the_last(cfg, tmp_path, caplog):
    caplog.set_level("INFO")
    (tmp_path / "config.yaml").write_text(cfg.dump())
    train_with_results(cfg, [0.1, 0.3, 0.2])
    detector = Detector.from_pretrained(str(tmp_path), device="cpu")
    best = load(tmp_path / "model_best.pth")["model"]
    assert "model_best.pth, the best checkpoint of the run, iteration 3." in caplog.text
    assert equal(best, detector.model.state_dict())
    assert find_last_checkpoint(tmp_path) == tmp_path / "model_final.pth"
    assert holds_training(tmp_path)
    for path in tmp_path.glob("*.pth"):
        if path.name != "model_best.pth":
            path.unlink()
    assert holds_training(tmp_path)
    with pytest.raises(CheckpointError, match="no earlier checkpoint"):
        find_last_checkpoint(tmp_path)


def test_no_evaluation_or_switched_off(cfg, tmp_path):
    cfg.TEST.BEST_METRIC = ""
    train_with_results(cfg, [0.1, 0.2, 0.3])
    assert not (tmp_path / "model_best.pth").exists()
    cfg.TEST.BEST_METRIC, cfg.DATASETS.TEST = "bbox/AP", ()
    Trainer(cfg).train()
    assert not (tmp_path / "model_best.pth").exists()


@pytest.mark.parametrize("caught_up, best", [(0.2, 1), (0.4, 3)])
def test_history_survives_a_resume(cfg, tmp_path, caught_up, best):
    """Cut off between the checkpoint and the evaluation after iteration 3, which is caught up."""
    caught = mock.Mock(side_effect=[{"bbox": {"AP": 0.3}}, KeyboardInterrupt])
    trainer = Trainer(cfg)
    with mock.patch.object(Trainer, "test", caught), pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000003.pth"
    train_with_results(cfg, [caught_up, 0.1], resume=True)
    found = load(tmp_path / "model_best.pth")
    same = load(tmp_path / "model_0000003.pth")
    assert found["iteration"] == best
    history = load(tmp_path / "model_final.pth")["trainer"]["hooks"]["BestCheckpointHook"]
    assert history["best_iteration"] == best and history["num_worse"] == (best == 1)
    if best == 3:
        assert equal(found["model"], same["model"]) and found["tood"] == same["tood"]
        for key in ("random_states", "iteration"):
            assert str(found[key]) == str(same[key])


def test_caught_up_evaluation_has_its_phase(cfg, tmp_path):
    """The model is built in the warm-up phase; the checkpoint is of the aligned one."""
    cfg.MODEL.TOOD.WARMUP.EPOCHS = 0.5  # 2 iterations
    caught = mock.Mock(side_effect=[{"bbox": {"AP": 0.3}}, KeyboardInterrupt])
    with mock.patch.object(Trainer, "test", caught), pytest.raises(KeyboardInterrupt):
        Trainer(cfg).train()
    train_with_results(cfg, [0.4, 0.1], resume=True)
    info = read_info(load(tmp_path / "model_best.pth"), "")
    assert info.iteration == 3 and info.phase == "aligned"


def test_best_checkpoint_of_another_run(cfg, tmp_path, caplog):
    """A resumed history whose file belongs to another run gets a new file."""
    cfg.SOLVER.CHECKPOINT_PERIOD = 3
    trainer = Trainer(cfg, "own")
    with mock.patch.object(Trainer, "test", return_value={"bbox": {"AP": 0.3}}):
        trainer.train()
    path = tmp_path / "model_best.pth"
    other = load(path)
    other["tood"]["run_id"] = "other"
    torch.save(other, path)
    cfg.SOLVER.MAX_ITER = 8
    again = Trainer(cfg, "own")
    again.resume_or_load()
    with mock.patch.object(Trainer, "test", return_value={"bbox": {"AP": 0.1}}):
        again.train()
    assert "is missing or damaged: the next evaluation counts as the best" in caplog.text
    assert read_info(load(path), "").run_id == "own"


def test_full_disk_keeps_the_best_before(cfg, tmp_path, monkeypatch):
    train_with_results(cfg, [0.1, 0.3, 0.2])
    before = (tmp_path / "model_best.pth").read_bytes()
    cfg.SOLVER.MAX_ITER = 8
    trainer = Trainer(cfg)
    trainer.resume_or_load()
    replace = os.replace

    def fail(source, target):
        if Path(target).name == "model_best.pth":
            raise OSError(28, "No space left on device")
        return replace(source, target)

    monkeypatch.setattr("os.replace", fail)
    with (
        mock.patch.object(Trainer, "test", return_value={"bbox": {"AP": 0.9}}),
        pytest.raises(CheckpointError, match="model_best.pth cannot be written: the disk is full"),
    ):
        trainer.train()
    assert (tmp_path / "model_best.pth").read_bytes() == before
    assert not list(tmp_path.glob(".model_best*"))
