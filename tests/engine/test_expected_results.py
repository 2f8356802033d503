"""TEST.EXPECTED_RESULTS: a training or an evaluation fails after everything was written."""

import logging

import pytest

from tests.engine.helpers import read_metrics, train_with_results
from tests.helpers import CONFIGS
from tood.config import load_config
from tood.config.validation import validate_solver, validate_test
from tood.engine.expected_results import verify_expected_results
from tood.errors import ConfigError, ResultError

RESULTS = {"bbox": {"AP": 42.0, "AP50": float("nan"), "AP-cat": 1.0}, "validation": {"loss": 1.5}}


def verify(cfg, expected, results=RESULTS):
    cfg.TEST.EXPECTED_RESULTS = expected
    verify_expected_results(cfg, results)


def test_within_the_tolerance(tiny_cfg, caplog):
    caplog.set_level(logging.INFO)
    verify(tiny_cfg, [])
    assert not caplog.records
    verify(tiny_cfg, [["bbox", "AP", 42.5, 0.5], ["validation", "loss", 1, 0.5]])
    lines = [x.getMessage() for x in caplog.records]
    assert lines[0] == "TEST.EXPECTED_RESULTS: bbox/AP is 42, expected 42.5 ± 0.5."


@pytest.mark.parametrize(
    "expected, message",
    [
        (["bbox", "AP", 41.0, 0.5], "bbox/AP is 42, expected 41 ± 0.5"),
        (["bbox", "AP", 43, 0.5], "bbox/AP is 42, expected 43 ± 0.5"),
        (["bbox", "AP50", 42.0, 100], "bbox/AP50 is nan, expected 42 ± 100"),
        (["segm", "AP", 42, 1], "no segm/AP. Available: bbox/AP, bbox/AP50, validation/loss"),
    ],
)
def test_misses(tiny_cfg, expected, message):
    with pytest.raises(ResultError) as error:
        verify(tiny_cfg, [["validation", "loss", 1.5, 0], expected])
    assert message in str(error.value) and "validation/loss is" not in str(error.value)


def test_every_miss_is_named(tiny_cfg):
    with pytest.raises(ResultError, match=r"bbox/AP is 42.*; validation/loss is 1.5"):
        verify(tiny_cfg, [["bbox", "AP", 1, 0], ["validation", "loss", 1, 0]])


def test_several_test_sets(tiny_cfg):
    results = {"coco": RESULTS, "lvis": {"bbox": {"AP": 1.0}}}
    verify(tiny_cfg, [["lvis/bbox", "AP", 1.0, 0.1]], results)
    with pytest.raises(ResultError, match=r"no bbox/AP. Available: coco/bbox/AP"):
        verify(tiny_cfg, [["bbox", "AP", 1.0, 0.1]], results)


def test_nothing_was_evaluated(tiny_cfg, caplog):
    verify(tiny_cfg, [["bbox", "AP", 1.0, 0.1]], None)
    assert "Nothing was evaluated" in caplog.text


@pytest.mark.parametrize(
    "value",
    [
        [1],
        [["bbox", "AP", 1.0]],
        [["bbox", "AP", "1", 0.1]],
        [["bbox", "AP", 1.0, -0.1]],
        ["bbox", "AP", 1.0, 0.1],
    ],
)
def test_wrong_values(tiny_cfg, value):
    tiny_cfg.TEST.EXPECTED_RESULTS = value
    with pytest.raises(ConfigError, match=r"TEST.EXPECTED_RESULTS .* must be a list of \[task"):
        validate_test(tiny_cfg)


def test_needs_a_test_set(tiny_cfg):
    tiny_cfg.TEST.EXPECTED_RESULTS = [["bbox", "AP", 1.0, 0.1]]
    tiny_cfg.DATASETS.TEST = ()
    with pytest.raises(ConfigError, match="DATASETS.TEST is empty, so nothing is evaluated"):
        validate_solver(tiny_cfg)


@pytest.mark.parametrize("values", [[0.1], [0.3, 0.2, 0.1]], ids=["whole", "stopped early"])
def test_files_of_a_training_are_complete(quick_cfg, tmp_path, values):
    cfg = quick_cfg
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.CHECKPOINT_PERIOD = 12, 100
    if len(values) > 1:
        cfg.TEST.EVAL_PERIOD, cfg.TEST.PATIENCE = 2, 2
    cfg.TEST.EXPECTED_RESULTS = [["bbox", "AP", 0.9, 0.01]]
    with pytest.raises(ResultError, match=r"bbox/AP is 0.1, expected 0.9 ± 0.01"):
        train_with_results(cfg, values)
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    metrics = {key: value for row in read_metrics(tmp_path) for key, value in row.items()}
    assert metrics["bbox/AP"] == 0.1 and "total_loss" in metrics


def test_config_of_the_quickstart():
    name = str(CONFIGS / "quickstart/TOOD-R18-shapes")
    quickstart, expected = (load_config(f"{name}{x}.yaml", []) for x in ("", "-expected"))
    assert not quickstart.TEST.EXPECTED_RESULTS  # its short form, and changes by users
    expected.TEST.EXPECTED_RESULTS, expected.OUTPUT_DIR = [], quickstart.OUTPUT_DIR
    assert expected == quickstart
