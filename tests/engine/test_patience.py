"""A training ends early when its evaluations do not improve any more."""

from pathlib import Path
from unittest import mock

import pytest
import torch

from tests.engine.helpers import read_metrics, train_with_results
from tood.engine import Trainer
from tood.errors import ResultError


@pytest.fixture
def cfg(quick_cfg):
    """Evaluations after iterations 1, 3, ..., 11; two without improvement end the training."""
    quick_cfg.SOLVER.MAX_ITER = 12
    quick_cfg.TEST.EVAL_PERIOD, quick_cfg.TEST.PATIENCE = 2, 2
    quick_cfg.SOLVER.CHECKPOINT_PERIOD = 100
    return quick_cfg


def load(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def test_ends_like_a_finished_run(cfg, tmp_path, caplog):
    caplog.set_level("INFO")
    trainer = train_with_results(cfg, [0.2, 0.3, 0.3, 0.1])
    assert trainer.iter == trainer.max_iter == 8
    (line,) = [x.getMessage() for x in caplog.records if "Stopping" in x.getMessage()]
    assert line == (
        "Stopping after iteration 7: bbox/AP has not improved in 2 evaluations (TEST.PATIENCE 2); "
        "the best, 0.3, was after iteration 3."
    )
    assert "Exception" not in caplog.text
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    final, rolling = load(tmp_path / "model_final.pth"), load(tmp_path / "model_0000007.pth")
    assert final["iteration"] == final["tood"]["iteration"] == 7
    assert all(torch.equal(final["model"][k], v) for k, v in rolling["model"].items())
    assert load(tmp_path / "model_best.pth")["iteration"] == 3
    last = {row["iteration"]: row for row in read_metrics(tmp_path)}[7]
    assert last["bbox/AP"] == 0.1 and "total_loss" in last


def test_resume_of_a_stopped_run(cfg, tmp_path, caplog):
    train_with_results(cfg, [0.3, 0.1, 0.2])
    files = {x: x.stat().st_mtime_ns for x in tmp_path.glob("*.pth")}
    caplog.clear()
    trainer = train_with_results(cfg, [], resume=True)  # nothing is evaluated again
    assert trainer.iter == trainer.max_iter == 6
    assert "This run has stopped after iteration 5: bbox/AP has not improved" in caplog.text
    assert "resume it with a larger TEST.PATIENCE, or 0." in caplog.text
    assert files == {x: x.stat().st_mtime_ns for x in tmp_path.glob("*.pth")}
    cfg.TEST.PATIENCE = 0
    trainer = train_with_results(cfg, [0.1, 0.2, 0.4], resume=True)
    assert trainer.start_iter == 6 and trainer.iter == trainer.max_iter == 12
    assert load(tmp_path / "model_best.pth")["iteration"] == 11


def test_more_patience_counts_on(cfg, tmp_path):
    train_with_results(cfg, [0.3, 0.1, 0.2])
    cfg.TEST.PATIENCE = 3
    assert train_with_results(cfg, [0.2], resume=True).iter == 8


def test_evaluation_that_is_caught_up_ends_it(cfg, tmp_path, caplog):
    """Cut off in the evaluation that would have ended the training."""
    results = [{"bbox": {"AP": 0.3}}, {"bbox": {"AP": 0.2}}, KeyboardInterrupt]
    with (
        mock.patch.object(Trainer, "test", mock.Mock(side_effect=results)),
        pytest.raises(KeyboardInterrupt),
    ):
        Trainer(cfg).train()
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000005.pth"
    trainer = train_with_results(cfg, [0.1], resume=True)
    assert trainer.iter == trainer.max_iter == 6
    assert "Stopping after iteration 5" in caplog.text
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    final = load(tmp_path / "model_final.pth")
    assert final["iteration"] == final["trainer"]["iteration"] == 5
    assert read_metrics(tmp_path)[-1]["bbox/AP"] == 0.1


def test_last_evaluation_ends_nothing(cfg, caplog):
    """The patience is over at the end: the run is finished, not stopped."""
    cfg.SOLVER.MAX_ITER = 6
    train_with_results(cfg, [0.3, 0.2, 0.1])
    assert "Stopping" not in caplog.text
    train_with_results(cfg, [0.1], resume=True)
    assert "has stopped" not in caplog.text


def test_expected_results_are_verified(cfg):
    cfg.TEST.EXPECTED_RESULTS = [["bbox", "AP", 0.9, 0.01]]
    with pytest.raises(ResultError, match=r"bbox/AP is 0.1, expected 0.9 ± 0.01"):
        train_with_results(cfg, [0.3, 0.2, 0.1])
    cfg.TEST.EXPECTED_RESULTS = [["bbox", "AP", 0.1, 0.01]]
    assert train_with_results(cfg, [0.3, 0.2, 0.1]).iter == 6
