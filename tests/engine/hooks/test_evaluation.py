"""An evaluation ends when the training is asked to stop, and does not follow a failed iteration."""

import signal
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tood.engine.hooks import ResumableEvalHook
from tood.engine.signals import StopRequest, TrainingInterrupted


@pytest.fixture
def evaluation():
    """A hook whose evaluation runs a model on 5 images; SIGTERM comes during the second one."""
    model, stop, images = nn.Identity(), StopRequest(), []

    def evaluate() -> dict:
        for image in range(5):
            model(torch.ones(1))
            images.append(image)
            if image == 1:
                stop.signum = signal.SIGTERM
        return {}

    hook = ResumableEvalHook(2, evaluate, stop)
    hook.trainer = SimpleNamespace(model=model, iter=1, start_iter=2, max_iter=10)
    return hook, images


def test_stops_before_the_next_image(evaluation, caplog):
    hook, images = evaluation
    with pytest.raises(TrainingInterrupted) as end:
        hook.after_step()
    assert end.value.code == 143 and images == [0, 1]
    assert "Stopped by SIGTERM during an evaluation" in caplog.text
    hook.trainer.model(torch.ones(1))  # not guarded any more
    hook.load_state_dict({"is_due": True})
    hook._stop.signum = None
    with pytest.raises(TrainingInterrupted):
        hook.catch_up()


def test_several_processes_finish_it(evaluation, monkeypatch):
    """They cannot agree in the middle."""
    monkeypatch.setattr("tood.engine.hooks.evaluation.comm.get_world_size", lambda: 2)
    hook, images = evaluation
    hook.after_step()
    assert images == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("iteration, num_images", [(9, 0), (10, 2)])
def test_last_evaluation(evaluation, iteration, num_images):
    """detectron2 sets the iteration to ``max_iter`` only after the last one has succeeded."""
    hook, images = evaluation
    hook.trainer.iter = iteration
    if num_images:
        with pytest.raises(TrainingInterrupted):
            hook.after_train()
    else:
        hook.after_train()
    assert len(images) == num_images
