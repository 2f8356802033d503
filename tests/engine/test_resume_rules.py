"""What a resume does with a config that differs from the checkpoint's."""

import pytest
import torch
from detectron2.solver import build_lr_scheduler
from torch import nn

from tood.engine.resume import (
    apply_config,
    convert_iterations,
    iteration_ratio,
    optimizer_settings,
    report_changes,
    training_settings,
)

EPOCHS_3 = {"SOLVER.EPOCHS": 3}


def settings(batch: int, max_iter: int) -> dict[str, int]:
    return {"SOLVER.IMS_PER_BATCH": batch, "SOLVER.MAX_ITER": max_iter}


@pytest.mark.parametrize(
    "saved, current, ratio",
    [
        (settings(16, 100), settings(16, 100), 1),
        (settings(16, 100), settings(16, 300), 1),  # a longer training
        (settings(16, 100), settings(8, 200), 2),  # half the processes, rescaled by detectron2
        (settings(16, 101), settings(24, 67), 16 / 24),  # 67.33 iterations, rounded
        (settings(16, 100), settings(8, 100), 1),  # only the batch: the schedule stays
        ({}, settings(8, 100), 1),
        # 10 images: 3 epochs of 3 and of 4 iterations; then 9 instead.
        ({**settings(4, 9), **EPOCHS_3}, {**settings(3, 12), **EPOCHS_3}, 4 / 3),
        ({**settings(4, 9), **EPOCHS_3}, {**settings(3, 36), "SOLVER.EPOCHS": 9}, 4 / 3),
        ({**settings(4, 9), **EPOCHS_3}, {**settings(4, 36), "SOLVER.EPOCHS": 9}, 1),
        (settings(4, 10), {**settings(3, 12), **EPOCHS_3}, 1),
    ],
)
def test_ratio_of_iterations(saved, current, ratio):
    assert iteration_ratio(current, saved) == ratio


def test_converted_iterations_keep_epoch_phase_and_schedule():
    """50 of 100 iterations with 16 images are 100 of 200 with 8."""
    state = {
        "iteration": 49,
        "events": {"loss": {}},
        "hooks": {
            "LRScheduler": {"last_epoch": 50, "base_lrs": [0.1]},
            "PhaseHook": {"warmup_iters": 30, "warmup_epochs": 3},
            "ResumableEvalHook": {"is_due": True},
        },
    }
    converted = convert_iterations(state, 2.0)
    assert converted["iteration"] == 99 and converted["events"] == {}
    assert converted["hooks"] == {
        "LRScheduler": {"last_epoch": 100, "base_lrs": [0.1]},
        "PhaseHook": {"warmup_iters": 60, "warmup_epochs": 3},
    }
    assert state["hooks"]["LRScheduler"]["last_epoch"] == 50
    # 7 iterations of 24 images are 10.5 of 16: the eleventh has begun.
    assert convert_iterations({"iteration": 6}, 1.5)["iteration"] == 10


def test_changes_are_said(tiny_cfg, caplog):
    saved = training_settings(tiny_cfg)
    tiny_cfg.SOLVER.STEPS = (5,)
    tiny_cfg.SOLVER.CHECKPOINT_PERIOD = tiny_cfg.TEST.EVAL_PERIOD = 7
    tiny_cfg.OUTPUT_DIR = "elsewhere"
    current = training_settings(tiny_cfg)
    report_changes(current, saved, 1)
    (message,) = caplog.messages
    assert message == (
        "SOLVER.STEPS is [5] from here on; the checkpoint was trained with [60000, 82500]."
    )
    caplog.clear()
    momentum = {"SOLVER.MOMENTUM": 0.9}
    report_changes({**settings(8, 200), **momentum}, {**settings(16, 100), "SOLVER.MOMENTUM": 0}, 2)
    assert "multiplied by 2" in caplog.text
    assert "SOLVER.MOMENTUM is 0.9 from here on" in caplog.text
    assert "SOLVER.MAX_ITER is" not in caplog.text


def make_optimizer(cfg, lr: float, decay: float = 0.0):
    torch.manual_seed(0)
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9, weight_decay=decay)
    return model, optimizer, build_lr_scheduler(cfg, optimizer)


def run(model, optimizer, scheduler, steps: int) -> list[float]:
    rates = []
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step()
    return rates


@pytest.mark.parametrize("lr, decay", [(0.1, 0.0), (0.05, 0.5)])
def test_the_config_decides(tiny_cfg, lr, decay):
    """Learning rate and decay are the config's from the next step on; momentum is kept."""
    solver = tiny_cfg.SOLVER
    solver.STEPS, solver.MAX_ITER, solver.WARMUP_ITERS = (6,), 10, 4
    parts = make_optimizer(tiny_cfg, 0.1)
    run(*parts, 3)
    saved = parts[1].state_dict(), parts[2].state_dict()
    model, optimizer, scheduler = make_optimizer(tiny_cfg, lr, decay)
    configured = optimizer_settings(optimizer)
    optimizer.load_state_dict(saved[0])
    scheduler.load_state_dict(saved[1])
    apply_config(optimizer, scheduler, configured)
    assert optimizer.param_groups[0]["weight_decay"] == decay
    momentum = optimizer.state[optimizer.param_groups[0]["params"][0]]["momentum_buffer"]
    assert torch.equal(momentum, saved[0]["state"][0]["momentum_buffer"])
    # Bit-equal rates: a resume with the same config must change nothing.
    fresh = make_optimizer(tiny_cfg, lr)
    assert run(model, optimizer, scheduler, 7) == run(*fresh, 10)[3:]
