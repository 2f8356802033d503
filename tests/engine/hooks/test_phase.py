"""The phase hook on its own."""

import logging

import pytest
from torch import nn

from tests.engine.helpers import run_phase_hook
from tood.engine import PhaseHook
from tood.modeling.dense_detector import DenseDetectorCore


class PhaseRecorder(DenseDetectorCore):
    """A core without any part that records the phases it is set to."""

    def __init__(self):
        nn.Module.__init__(self)
        self.calls = []

    @property
    def phase(self):
        return self.calls[-1] if self.calls else "warmup"

    def set_phase(self, phase):
        self.calls.append(phase)


@pytest.fixture(autouse=True)
def info_is_logged(caplog):
    caplog.set_level(logging.INFO, logger="tood")


def test_phase_at_every_iteration(caplog):
    model = PhaseRecorder()
    scalars = run_phase_hook(PhaseHook(3), model, range(6))
    assert model.calls == ["warmup"] * 3 + ["aligned"] * 3
    assert scalars == [0, 0, 0, 1, 1, 1]
    assert caplog.text.count("the aligned phase begins") == 1
    assert "until iteration 3 of 10" in caplog.text


@pytest.mark.parametrize("start, expected", [(2, "warmup"), (3, "aligned"), (7, "aligned")])
def test_first_step_after_a_resume(start, expected, caplog):
    model = PhaseRecorder()
    run_phase_hook(PhaseHook(3), model, [start], start)
    assert model.calls[-1] == expected
    assert ("Resumed in the aligned phase" in caplog.text) == (expected == "aligned")


@pytest.mark.parametrize("start, expected", [(0, []), (3, ["warmup"]), (4, ["aligned"])])
def test_before_the_first_step_of_a_resume(start, expected):
    """An evaluation that is caught up has the phase of the iteration before."""
    model = PhaseRecorder()
    run_phase_hook(PhaseHook(3), model, [], start)
    assert model.calls == expected


def test_no_warmup(caplog):
    model = PhaseRecorder()
    run_phase_hook(PhaseHook(0), model, range(2))
    assert model.calls == ["aligned"] * 2
    assert "from the first iteration on" in caplog.text


@pytest.mark.parametrize("warmup_iters", [10, 154])
def test_warmup_longer_than_training(caplog, warmup_iters):
    """One warning that says how to fix it, and no "until iteration 154 of 10"."""
    run_phase_hook(PhaseHook(warmup_iters), PhaseRecorder(), [0])
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "never reaches the aligned phase" in caplog.text
    assert "MODEL.TOOD.WARMUP.EPOCHS" in caplog.text and "SOLVER.MAX_ITER" in caplog.text
    assert "until iteration" not in caplog.text


def test_finds_the_core_inside_a_larger_model():
    core = PhaseRecorder()
    run_phase_hook(PhaseHook(1), nn.Sequential(nn.Linear(1, 1), core), range(2))
    assert core.calls == ["warmup", "aligned"]


def test_model_without_phases():
    with pytest.raises(TypeError, match="not Linear"):
        run_phase_hook(PhaseHook(1), nn.Linear(1, 1), [0])
