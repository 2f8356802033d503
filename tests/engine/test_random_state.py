"""Random states, recent scalars and sums over processes."""

import random

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from detectron2.utils.events import EventStorage

from tood.checkpoint.saving import write_checkpoint
from tood.engine.event_state import get_event_state, set_event_state
from tood.engine.random_state import get_random_state, set_random_state
from tood.engine.step_sums import StepSums


def draw() -> list[float]:
    return [
        random.random(),
        random.gauss(0, 1),  # keeps a second value for the next call
        np.random.rand(),
        np.random.randn(),
        torch.rand(()).item(),
        torch.randn(3).sum().item(),
    ]


def test_random_state_survives_a_file(tmp_path):
    """A checkpoint is read without executing anything, so the states are plain types."""
    draw()
    write_checkpoint({"state": get_random_state()}, tmp_path / "state.pth")
    expected = [draw(), draw()]
    assert expected[0] != expected[1]
    set_random_state(torch.load(tmp_path / "state.pth", weights_only=True)["state"])
    assert [draw(), draw()] == expected


def fill(storage: EventStorage, iterations: range) -> None:
    for storage.iter in iterations:
        storage.put_scalar("loss", float(storage.iter**2 % 7))
        storage.put_scalar("lr", 0.1 * storage.iter, smoothing_hint=False)
        if storage.iter % 10 == 9:
            storage.put_scalar("bbox/AP", storage.iter, smoothing_hint=False)


def test_metrics_after_a_resume_are_those_of_the_uninterrupted_run(tmp_path):
    with EventStorage(0) as whole:
        fill(whole, range(50))
        state = get_event_state(whole)
        fill(whole, range(50, 60))
        expected = whole.latest_with_smoothing_hint(20)
    write_checkpoint(state, tmp_path / "events.pth")
    state = torch.load(tmp_path / "events.pth", weights_only=True)
    with EventStorage(50) as resumed:
        set_event_state(resumed, state)
        assert resumed.iter == 50
        fill(resumed, range(50, 60))
        assert resumed.latest_with_smoothing_hint(20) == expected
    assert expected["bbox/AP"] == (59, 59)


def test_sums_of_a_single_process():
    assert StepSums(2).exchange([3, 4]) == [3, 4]


def sums_worker(rank: int, init_file: str, results: object) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{init_file}", rank=rank, world_size=2
    )
    sums = StepSums(2)
    results[rank] = [sums.exchange([10 * step + rank, rank]) for step in range(3)]
    sums.close()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_sums_of_two_processes_arrive_one_call_later(tmp_path):
    with mp.get_context("spawn").Manager() as manager:
        results = manager.dict()
        mp.spawn(sums_worker, (str(tmp_path / "init"), results), nprocs=2)
        assert results[0] == results[1] == [[0, 0], [1, 1], [21, 1]]
