"""What a run prints to the terminal, and what goes to log.txt only."""

import logging
import re
from types import SimpleNamespace

import pytest
from detectron2.engine import default_setup
from detectron2.engine.hooks import PeriodicWriter

from tood.engine import Trainer, setup_loggers
from tood.engine.terminal import describe_training, is_essential


def train(cfg):
    setup_loggers(cfg.OUTPUT_DIR)
    default_setup(cfg, SimpleNamespace(config_file="", eval_only=False))
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    (writer,) = [hook for hook in trainer._hooks if isinstance(hook, PeriodicWriter)]
    writer._period = cfg.SOLVER.MAX_ITER  # 20 otherwise
    trainer.train()


def test_summary_right_before_the_first_iteration(run_cfg, tmp_path, capsys):
    run_cfg.SOLVER.CHECKPOINT_PERIOD = 100
    train(run_cfg)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    first = next(i for i, line in enumerate(lines) if ": iter 5 " in line)
    before = lines[:first]
    assert len(before) <= 12, "\n".join(before)
    begin = next(i for i, line in enumerate(before) if "Training on" in line)
    summary = before[begin : begin + 5]
    assert "Training on 8 images after filtering, 5 classes" in summary[0]
    assert summary[1].strip() == "Length: 6 iterations, 1.5 epochs"
    assert summary[2].strip() == "Batch: 2 images, learning rate 0.01"
    assert summary[3].strip().startswith(f"Output: {tmp_path} (details in log.txt); ")
    assert "ATSS warm-up phase until iteration 4 of 6" in summary[4]
    assert "Iteration 4: the aligned phase begins" in before[begin + 5]
    assert lines[first].endswith("  aligned")
    assert "copypaste: Task: bbox" in "\n".join(lines[first:])

    log = (tmp_path / "log.txt").read_text()
    for text in (
        "Environment info",
        "Running with full config",
        "Model:\n",
        "Distribution of instances",
        "Augmentations used in training",
        "Training on 8 images",
        ": iter 5 ",
    ):
        assert log.count(text) >= 1, text
    for text in ("Environment info", "Running with full config", "Training on 8 images"):
        assert log.count(text) == 1, text  # handlers are not doubled


@pytest.mark.parametrize(
    "name, level, message, expected",
    [
        ("detectron2", logging.INFO, "Rank of current process: 0.", False),
        ("detectron2", logging.WARNING, "two\nlines", True),
        ("detectron2.data.build", logging.INFO, "Using training sampler", False),
        ("d2.data.build", logging.INFO, "Using training sampler", False),
        ("detectron2.engine.defaults", logging.INFO, "Model:\nTOOD(", False),
        ("detectron2.engine.defaults", logging.INFO, "Auto-scaling the config", True),
        ("detectron2.engine.train_loop", logging.INFO, "Starting training", True),
        ("detectron2.evaluation.coco_evaluation", logging.INFO, "Per-category:\n|", True),
        ("fvcore.common.checkpoint", logging.INFO, "Saving checkpoint to x", True),
    ],
)
def test_essential_messages(name, level, message, expected):
    assert is_essential(logging.LogRecord(name, level, "", 0, message, (), None)) is expected


def test_description_of_a_resumed_run_on_several_gpus(run_cfg):
    run_cfg.SOLVER.IMS_PER_BATCH, run_cfg.TEST.EVAL_PERIOD = 16, 50
    run_cfg.SOLVER.CHECKPOINT_PERIOD = 70
    text = describe_training(
        run_cfg, num_images=160, num_classes=None, start_iter=30, max_iter=200, world_size=8
    )
    assert text.splitlines() == [
        "Training on 160 images after filtering",
        "  Length: 200 iterations, 20.0 epochs, resumed at 30",
        "  Batch: 16 images (2 on each of 8 GPUs), learning rate 0.01",
        f"  Output: {run_cfg.OUTPUT_DIR} (details in log.txt); checkpoint every 70 iterations, "
        "evaluation every 50 iterations",
    ]


@pytest.mark.parametrize("period", [0, 9, 5000])
def test_description_of_a_run_that_is_shorter_than_the_periods(run_cfg, period):
    run_cfg.SOLVER.CHECKPOINT_PERIOD, run_cfg.TEST.EVAL_PERIOD = 5000, period
    kwargs = {"num_images": 160, "num_classes": 5, "start_iter": 0, "max_iter": 9, "world_size": 1}
    text = describe_training(run_cfg, **kwargs)
    assert text.endswith("checkpoint at the end, evaluation at the end")
    run_cfg.DATASETS.TEST = ()
    assert describe_training(run_cfg, **kwargs).endswith("no evaluation")
