"""Builders that the tests of the engine share."""

import json
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import torch
from detectron2.config import CfgNode
from torch import nn

from tood.engine import PhaseHook, Trainer


def run_phase_hook(
    hook: PhaseHook, model: nn.Module, iterations: range | list[int], start: int = 0
) -> list[float]:
    """Run the hook before each of the iterations, of 10 in all; return the scalars it wrote."""
    hook.trainer = SimpleNamespace(
        model=model, iter=start, start_iter=start, max_iter=10, storage=mock.Mock()
    )
    hook.before_train()
    for hook.trainer.iter in iterations:
        hook.before_step()
    return [call.args[1] for call in hook.trainer.storage.put_scalar.call_args_list]


def read_metrics(folder: Path) -> list[dict]:
    return [json.loads(x) for x in (folder / "metrics.json").read_text().splitlines()]


def train_without_tests(cfg: CfgNode, until: int | None = None, resume: bool = False) -> Trainer:
    """Train from seeded weights, up to an iteration of the schedule; evaluations find nothing."""
    torch.manual_seed(0)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    if until is not None:
        trainer.max_iter = until
    with mock.patch.object(Trainer, "test", return_value={}):
        trainer.train()
    return trainer


def train_with_results(cfg: CfgNode, values: list[float], *, resume: bool = False) -> Trainer:
    """Train; the evaluations have these values of AP, and there are no others."""
    remaining = list(values)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    with mock.patch.object(Trainer, "test", lambda *_: {"bbox": {"AP": remaining.pop(0)}}):
        trainer.train()
    assert not remaining
    return trainer
