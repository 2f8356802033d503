"""Resuming training from a checkpoint."""

from unittest import mock

import pytest
import torch

from tood.engine import Trainer


@pytest.mark.parametrize("stop, phase", [(3, "warmup"), (5, "aligned")])
def test_resume_in_either_phase(run_cfg, stop, phase):
    """The first step after a resume has the phase of its iteration."""
    run_cfg.SOLVER.CHECKPOINT_PERIOD = stop
    trainer = Trainer(run_cfg)
    trainer.max_iter = stop
    trainer.resume_or_load(resume=False)
    with mock.patch.object(Trainer, "test", return_value={}):
        trainer.train()
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    momenta = [s["momentum_buffer"] for s in trainer.optimizer.state.values()]

    phases = []

    class Watched(Trainer):
        def run_step(self):
            phases.append((self.iter, self.model.phase))
            super().run_step()

    again = Watched(run_cfg)
    again.resume_or_load(resume=True)
    assert again.start_iter == stop
    assert all(torch.equal(before[k], v) for k, v in again.model.state_dict().items())
    loaded = [s["momentum_buffer"] for s in again.optimizer.state.values()]
    assert any(m.abs().sum() > 0 for m in momenta)
    assert len(loaded) == len(momenta)
    assert all(torch.equal(a, b) for a, b in zip(momenta, loaded, strict=True))
    with mock.patch.object(Trainer, "test", return_value={}):
        again.train()
    assert phases[0] == (stop, phase)
    assert phases[-1] == (5, "aligned")


def test_checkpoint_without_optimizer(run_cfg, caplog):
    """As detectron2 0.4 alone writes it."""
    trainer = Trainer(run_cfg)
    trainer.iter = 3
    state = trainer.state_dict()
    del state["_trainer"]
    again = Trainer(run_cfg)
    again.load_state_dict(state)
    assert "no optimizer state" in caplog.text
    assert again.iter == 3 and not again.optimizer.state


def test_checkpoint_without_loss_scale(run_cfg):
    """Written without AMP and resumed with AMP: the loss scale keeps its initial value."""
    state = Trainer(run_cfg).state_dict()
    assert set(state["_trainer"]) == {"iteration", "optimizer"}
    trainer = Trainer(run_cfg)
    inner = mock.Mock(wraps=trainer._trainer)
    inner.optimizer = trainer.optimizer
    inner.state_dict = lambda: {"iteration": 0, "optimizer": {}, "grad_scaler": {"scale": 512.0}}
    trainer._trainer = inner
    trainer.load_state_dict(state)
    (loaded,) = inner.load_state_dict.call_args.args
    assert loaded["grad_scaler"] == {"scale": 512.0}
    assert loaded["optimizer"] == state["_trainer"]["optimizer"]
