"""Values of the optimizer and the schedule: refused before anything is built."""

import pytest
import torch
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.utils import comm

from tood.config.merging import merge_options
from tood.config.validation import validate_solver
from tood.errors import ConfigError


def problem(cfg, *opts) -> str:
    merge_options(cfg, [str(word) for word in opts])
    with pytest.raises(ConfigError) as error:
        validate_solver(cfg)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300
    return str(error.value)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("SOLVER.MAX_ITER", 0, "SOLVER.MAX_ITER is 0, but must be an integer of at least 1."),
        ("SOLVER.MAX_ITER", -5, "SOLVER.MAX_ITER is -5, but must be an integer of at least 1."),
        ("SOLVER.IMS_PER_BATCH", 0, "is 0, but must be an integer from 1 to 65536. It counts the"),
        ("SOLVER.IMS_PER_BATCH", 10**9, "is 1000000000, but must be an integer from 1 to 65536."),
        ("SOLVER.REFERENCE_WORLD_SIZE", -1, "at least 0. 0 disables automatic rescaling."),
        ("SOLVER.REFERENCE_BATCH_SIZE", 0, "must be an integer from 1 to 65536."),
        ("SOLVER.OPTIMIZER", "Adam", "Unknown SOLVER.OPTIMIZER 'Adam'. Available: SGD, AdamW."),
        ("SOLVER.FREEZE", "['']", "must be a list of patterns of parameter names."),
        ("SOLVER.LR_FACTORS", "[['a', 0]]", "must be a list of pairs of a pattern and a number ab"),
        ("SOLVER.LR_FACTORS", "['a', 1]", "must be a list of pairs of a pattern and a number a"),
        ("SOLVER.BASE_LR", -0.1, "SOLVER.BASE_LR is -0.1, but must be a number of at least 0."),
        ("SOLVER.MOMENTUM", 9.0, "SOLVER.MOMENTUM is 9.0, but must be a number from 0 to 1."),
        ("SOLVER.WEIGHT_DECAY", -1.0, "SOLVER.WEIGHT_DECAY is -1.0, but must be"),
        ("SOLVER.WEIGHT_DECAY_NORM", -1.0, "must be a number of at least 0, or None."),
        ("SOLVER.WARMUP_ITERS", -1, "at least 0. 0 starts with the full learning rate."),
        ("SOLVER.WARMUP_FACTOR", -0.5, "SOLVER.WARMUP_FACTOR is -0.5, but must be a number of"),
        ("SOLVER.WARMUP_METHOD", "exp", "SOLVER.WARMUP_METHOD 'exp'. Available: constant, linear."),
        ("SOLVER.LR_SCHEDULER_NAME", "CosineLR", "'CosineLR'. Available: WarmupCosineLR, WarmupMu"),
        ("SOLVER.GAMMA", -0.1, "SOLVER.GAMMA is -0.1, but must be a number of at least 0."),
        (
            "SOLVER.STEPS",
            "(3, 2)",
            "SOLVER.STEPS is [3, 2], but each iteration must be larger than",
        ),
        (
            "SOLVER.STEPS",
            "(2, 2)",
            "SOLVER.STEPS is [2, 2], but each iteration must be larger than",
        ),
        ("SOLVER.STEPS", "(0, 2)", "is (0, 2), but must be a list of integers of at least 1. () k"),
        ("SOLVER.STEPS", "(-4,)", "SOLVER.STEPS is (-4,), but must be a list of integers of at"),
        ("SOLVER.STEPS", "(1.5,)", "SOLVER.STEPS is (1.5,), but must be a list of integers of at"),
        ("SOLVER.STEPS", "('a',)", "SOLVER.STEPS is ('a',), but must be a list of numbers."),
        ("SOLVER.STEPS", "(90000,)", "SOLVER.STEPS has 90000, which is SOLVER.MAX_ITER"),
        ("SOLVER.CHECKPOINT_PERIOD", 0, "at least 1. Use SOLVER.MAX_ITER to save only at the end."),
        ("SOLVER.CHECKPOINT_PERIOD", -1, "SOLVER.CHECKPOINT_PERIOD is -1, but must be"),
        ("SOLVER.CHECKPOINT_MINUTES", -1, "SOLVER.CHECKPOINT_MINUTES is -1, but must be"),
        ("SOLVER.CHECKPOINT_KEEP", -1, "CHECKPOINT_KEEP is -1, but must be an integer of at least"),
        ("TEST.EVAL_PERIOD", -1, "TEST.EVAL_PERIOD is -1, but must be an integer of at least 0."),
        ("TEST.PATIENCE", -1, "TEST.PATIENCE is -1, but must be an integer of at least 0."),
        ("SOLVER.EPOCHS", -1, "must be an integer of at least 0. 0 counts SOLVER.MAX_ITER."),
        ("SOLVER.EPOCH_STEPS", "(0.5,)", "integers of at least 1. () stands for 8/12 and 11/12"),
        ("SOLVER.EPOCH_STEPS", "(8, 11)", "is [8, 11], but SOLVER.EPOCHS is 0, so that MAX_ITER"),
        ("TEST.EVAL_EPOCHS", -1, "must be an integer of at least 0. 0 counts TEST.EVAL_PERIOD."),
        ("SEED", 2**32, "SEED is 4294967296, but must be an integer of at most"),
    ],
)
def test_values_out_of_range(tiny_cfg, key, value, message):
    found = problem(tiny_cfg, key, value)
    assert key in found and message in found


@pytest.mark.parametrize(
    "opts, message",
    [
        (
            ["SOLVER.NESTEROV", True, "SOLVER.MOMENTUM", 0.0],
            "SOLVER.NESTEROV is True, but SOLVER.MOMENTUM is 0.",
        ),
        (
            ["SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full"],
            "Unknown SOLVER.CLIP_GRADIENTS.CLIP_TYPE 'full'. Available: value, norm.",
        ),
        (
            ["SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0.0],
            "SOLVER.CLIP_GRADIENTS.CLIP_VALUE is 0.0, but must be a number above 0.",
        ),
        (
            ["TEST.PRECISE_BN.ENABLED", True, "TEST.PRECISE_BN.NUM_ITER", 0],
            "TEST.PRECISE_BN.NUM_ITER is 0, but must be an integer of at least 1.",
        ),
        (
            ["SOLVER.AUTO_SCALE_LR", True, "SOLVER.REFERENCE_WORLD_SIZE", 8],
            "SOLVER.AUTO_SCALE_LR is True, but SOLVER.REFERENCE_WORLD_SIZE is 8, which scales the",
        ),
        (
            ["SOLVER.EPOCHS", 12, "SOLVER.EPOCH_STEPS", "(11, 8)"],
            "SOLVER.EPOCH_STEPS is [11, 8], but each epoch must be larger than the one before it.",
        ),
        (
            ["SOLVER.EPOCHS", 12, "SOLVER.EPOCH_STEPS", "(8, 12)"],
            "SOLVER.EPOCH_STEPS has 12, but training ends after 12 epochs (SOLVER.EPOCHS).",
        ),
    ],
)
def test_values_that_contradict_each_other(tiny_cfg, opts, message):
    assert message in problem(tiny_cfg, *opts)


@pytest.mark.parametrize(
    "opts, gpus, message",
    [
        (["SOLVER.MAX_ITER", 1], 32, "SOLVER.MAX_ITER becomes 0 after rescaling from 8 to 32 GPUs"),
        (["SOLVER.CHECKPOINT_PERIOD", 1], 32, "SOLVER.CHECKPOINT_PERIOD becomes 0 after rescaling"),
        (["TEST.EVAL_PERIOD", 1], 32, "TEST.EVAL_PERIOD becomes 0 after rescaling from 8 to 32"),
        (["TEST.EVAL_PERIOD", 0], 32, None),
        (["SOLVER.STEPS", (100, 101)], 32, "SOLVER.STEPS is [25, 25] after rescaling from 8 to 32"),
        (["SOLVER.STEPS", (100, 101)], 8, None),
        (["SOLVER.MAX_ITER", 400, "SOLVER.STEPS", (399,)], 32, "SOLVER.STEPS has 100 after"),
        (["SOLVER.MAX_ITER", 400, "SOLVER.STEPS", (399,)], 1, None),
        (["SOLVER.MAX_ITER", 1, "SOLVER.EPOCHS", 12], 32, None),
        (["TEST.EVAL_PERIOD", 1, "TEST.EVAL_EPOCHS", 1], 32, None),
    ],
)
def test_values_after_detectron2s_rescaling(tiny_cfg, opts, gpus, message, monkeypatch):
    """It changes the schedule for the number of GPUs after the config was checked."""
    monkeypatch.setattr(comm, "get_world_size", lambda: gpus)
    tiny_cfg.SOLVER.REFERENCE_WORLD_SIZE = 8
    if message is not None:
        assert message in problem(tiny_cfg, *opts)
        return
    merge_options(tiny_cfg, [str(word) for word in opts])
    validate_solver(tiny_cfg)


# Accepted values must work on the installed detectron2, and refused ones are not needed by anyone.
ACCEPTED = [
    ["SOLVER.STEPS", "()"],
    ["SOLVER.EPOCHS", 12],
    ["SOLVER.EPOCHS", 12, "SOLVER.EPOCH_STEPS", "(8, 11)"],
    ["SOLVER.STEPS", "(4, 400000)"],  # detectron2 ignores steps after the end and warns
    ["SOLVER.STEPS", "[4, 6]"],
    ["SOLVER.MAX_ITER", 1, "SOLVER.STEPS", "()"],
    ["SOLVER.WARMUP_ITERS", 0],
    ["SOLVER.WARMUP_ITERS", 10**6],
    ["SOLVER.WARMUP_FACTOR", 0.0],
    ["SOLVER.WARMUP_FACTOR", 1.5],
    ["SOLVER.WARMUP_METHOD", "constant"],
    ["SOLVER.GAMMA", 0.0],
    ["SOLVER.GAMMA", 2.0],
    ["SOLVER.BASE_LR", 0.0],
    ["SOLVER.BASE_LR", 1],
    ["SOLVER.FREEZE", "['backbone.*']", "SOLVER.LR_FACTORS", "[['head.*', 2]]"],
    ["SOLVER.AUTO_SCALE_LR", True, "SOLVER.IMS_PER_BATCH", 4],
    ["SOLVER.MOMENTUM", 0.0],
    ["SOLVER.NESTEROV", True],
    ["SOLVER.WEIGHT_DECAY_BIAS", None],
    ["SOLVER.WEIGHT_DECAY_NORM", None],
    ["SOLVER.BIAS_LR_FACTOR", 2.0],
    ["SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.STEPS", "(9, 3)"],
    ["SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "norm"],
    ["SOLVER.CHECKPOINT_MINUTES", 0.5],
    ["TEST.EVAL_PERIOD", 0],
    ["SEED", -1],
    ["VIS_PERIOD", 0],
]


@pytest.mark.parametrize("opts", ACCEPTED, ids=str)
def test_accepted_values_build_a_schedule(tiny_cfg, opts):
    merge_options(tiny_cfg, [str(word) for word in opts])
    validate_solver(tiny_cfg)
    model = torch.nn.Linear(2, 2)
    optimizer = build_optimizer(tiny_cfg, model)
    scheduler = build_lr_scheduler(tiny_cfg, optimizer)
    optimizer.step()
    scheduler.step()
    assert all(group["lr"] >= 0 for group in optimizer.param_groups)


@pytest.mark.parametrize(
    "opts",
    [
        ["SOLVER.STEPS", "(3, 2)"],
        ["SOLVER.STEPS", "(0, 2)"],
        ["SOLVER.MAX_ITER", 4, "SOLVER.STEPS", "(4,)"],
        ["SOLVER.MAX_ITER", 0],
        ["SOLVER.LR_SCHEDULER_NAME", "CosineLR"],
        ["SOLVER.WARMUP_METHOD", "exp"],
        ["SOLVER.MOMENTUM", 0.0, "SOLVER.NESTEROV", True],
        ["SOLVER.MOMENTUM", -0.5],
    ],
    ids=str,
)
def test_detectron2_fails_on_what_is_refused(tiny_cfg, opts):
    problem(tiny_cfg, *opts)
    with pytest.raises((ValueError, ZeroDivisionError, AssertionError)):
        build_lr_scheduler(tiny_cfg, build_optimizer(tiny_cfg, torch.nn.Linear(2, 2)))


def test_schedules_of_newer_versions(tiny_cfg):
    """WarmupStepWithFixedGammaLR and BASE_LR_END came after detectron2 0.4."""
    tiny_cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupStepWithFixedGammaLR"
    if "NUM_DECAYS" not in tiny_cfg.SOLVER:
        assert "Available: WarmupCosineLR, WarmupMultiStepLR." in problem(tiny_cfg)
        return
    validate_solver(tiny_cfg)
    build_lr_scheduler(tiny_cfg, build_optimizer(tiny_cfg, torch.nn.Linear(2, 2)))
    cosine = ["SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR"]
    for opts in (
        ["SOLVER.NUM_DECAYS", 0],
        ["SOLVER.GAMMA", 0.0],
        ["SOLVER.GAMMA", 0.1, "SOLVER.NUM_DECAYS", 3, "SOLVER.WARMUP_ITERS", 90000],
        ["SOLVER.WARMUP_ITERS", 5, "SOLVER.BASE_LR_END", 0.5, *cosine],
        ["SOLVER.BASE_LR_END", 0.0, "SOLVER.BASE_LR", 0.0, *cosine],
    ):
        problem(tiny_cfg, *opts)


def test_own_schedules_are_left_alone(tiny_cfg):
    tiny_cfg.SOLVER.LR_SCHEDULER_NAME = "Mine"
    tiny_cfg.SOLVER.STEPS = (3, 2)
    validate_solver(tiny_cfg, own_scheduler=True)
    tiny_cfg.SOLVER.MAX_ITER = 0
    with pytest.raises(ConfigError, match="MAX_ITER is 0"):
        validate_solver(tiny_cfg, own_scheduler=True)


def test_no_learning_is_said(tiny_cfg, caplog):
    tiny_cfg.SOLVER.BASE_LR = 0.0
    validate_solver(tiny_cfg)
    assert "SOLVER.BASE_LR is 0, so training changes no weights." in caplog.text


def test_patience_needs_something_to_improve(tiny_cfg):
    message = problem(tiny_cfg, "TEST.PATIENCE", 2, "TEST.EVAL_PERIOD", 0)
    assert "TEST.EVAL_PERIOD and EVAL_EPOCHS are 0. Set how often to evaluate, or" in message
    tiny_cfg.TEST.EVAL_EPOCHS = 1  # is how often
    validate_solver(tiny_cfg)
    tiny_cfg.TEST.EVAL_EPOCHS = 0
    tiny_cfg.TEST.EVAL_PERIOD = 10
    message = problem(tiny_cfg, "TEST.PATIENCE", 2, "TEST.BEST_METRIC", "")
    assert "TEST.BEST_METRIC is ''. Set the metric that has to improve, or TEST.PATIENCE" in message
    tiny_cfg.TEST.BEST_METRIC = "bbox/AP"
    validate_solver(tiny_cfg)
    assert "there is no test set" in problem(tiny_cfg, "DATASETS.TEST", "()")


def test_the_best_checkpoint_is_that_of_its_metric(tiny_cfg):
    """With an average, the file holds the average."""
    tiny_cfg.TEST.BEST_METRIC = "raw_bbox/AP"
    validate_solver(tiny_cfg)
    assert "Set it to 'bbox/AP'" in problem(tiny_cfg, "SOLVER.EMA.ENABLED", True)


def test_a_rate_of_sgd_for_adamw_is_said(tiny_cfg, caplog):
    tiny_cfg.SOLVER.OPTIMIZER, tiny_cfg.SOLVER.BASE_LR = "AdamW", 0.001
    validate_solver(tiny_cfg)
    assert "AdamW" not in caplog.text
    tiny_cfg.SOLVER.BASE_LR = 0.01
    validate_solver(tiny_cfg)
    assert "SOLVER.BASE_LR is 0.01, which suits SGD" in caplog.text
