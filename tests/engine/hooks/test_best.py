"""Which evaluation is the best, and how many are worse."""

import math

import pytest
import torch.distributed as dist
import torch.multiprocessing as mp

from tood.engine.hooks import BestCheckpointHook


def run_hook(values: list[float], metric: str = "bbox/AP", **options) -> tuple[list[int], object]:
    """Evaluate after iterations 0, 1, ...; return those that were saved, and the hook."""
    saved = []
    hook = BestCheckpointHook(lambda: saved.append(hook.best_iteration), metric, **options)
    for iteration, value in enumerate(values):
        loss = {"total_loss": value}
        results = {"bbox": {"AP": value}, "validation": loss, "raw_validation": loss}
        hook.update(results, iteration)
    return saved, hook


@pytest.mark.parametrize(
    "metric, saved, num_worse",
    [
        ("bbox/AP", [0, 2, 5], 1),
        ("validation/total_loss", [0, 1], 5),
        ("raw_validation/total_loss", [0, 1], 5),
    ],
)
def test_best_so_far(metric, saved, num_worse):
    """An equal value is no improvement; a loss is better where it is lower."""
    found, hook = run_hook([0.2, 0.1, 0.3, 0.3, 0.2, 0.4, 0.4], metric)
    assert found == saved and hook.best_iteration == saved[-1]
    assert hook.num_worse == num_worse


def test_metric_that_is_not_finite(caplog):
    """Nothing is forgotten, nothing is counted, and one warning says so."""
    saved, hook = run_hook([math.nan, 0.2, math.nan, math.inf, 0.1], patience=2)
    assert saved == [1] and hook.num_worse == 1 and not hook.is_over
    assert caplog.text.count("bbox/AP (TEST.BEST_METRIC) is nan after iteration 0") == 1
    assert len(caplog.records) == 1


def test_metric_that_does_not_exist(caplog):
    saved, hook = run_hook([0.1, 0.2], "bbox/AP55")
    assert saved == [] and hook.num_worse == 0
    (record,) = caplog.records
    assert "TEST.BEST_METRIC is 'bbox/AP55'" in record.getMessage()
    assert (
        "Available: bbox/AP, validation/total_loss, raw_validation/total_loss."
        in record.getMessage()
    )
    BestCheckpointHook(lambda: None, "bbox/AP").update({}, 0)
    assert "Available: nothing." in caplog.text


def test_history_goes_on():
    _, before = run_hook([0.1, 0.3, 0.2])
    saved = []
    hook = BestCheckpointHook(lambda: saved.append(hook.best_iteration), "bbox/AP")
    hook.load_state_dict(before.state_dict())
    hook.before_train()
    for iteration, value in ((3, 0.25), (4, 0.31)):
        hook.update({"bbox": {"AP": value}}, iteration)
        assert hook.num_worse == (2 if iteration == 3 else 0)
    assert saved == [4]


def test_history_of_another_metric(caplog):
    _, before = run_hook([0.1, 0.9])
    hook = BestCheckpointHook(lambda: None, "bbox/AP50")
    hook.load_state_dict(before.state_dict())
    assert hook.best_value is None
    assert "TEST.BEST_METRIC is bbox/AP50, but the best checkpoint was chosen by bbox/AP" in (
        caplog.text
    )


def test_best_checkpoint_is_missing(caplog):
    """The next evaluation writes a new one; what the patience has counted stays until then."""
    _, before = run_hook([0.3, 0.1])
    saved = []
    hook = BestCheckpointHook(lambda: saved.append(1), "bbox/AP", has_best=lambda: False)
    hook.before_train()  # a new run has nothing to miss
    assert not caplog.records
    hook.load_state_dict(before.state_dict())
    hook.before_train()
    assert hook.num_worse == 1
    assert "after iteration 0 with bbox/AP 0.3, is missing or damaged" in caplog.text
    hook.update({"bbox": {"AP": 0.2}}, 2)
    assert saved == [1] and hook.num_worse == 0


def worker(rank: int, init_file: str, queue) -> None:
    dist.init_process_group("gloo", init_method=f"file://{init_file}", rank=rank, world_size=2)
    saved = []
    hook = BestCheckpointHook(lambda: saved.append(hook.best_iteration), "bbox/AP", patience=2)
    for iteration, value in enumerate((0.2, math.nan, 0.3, 0.1, 0.3)):
        # Only the main process has results.
        hook.update({"bbox": {"AP": value}} if rank == 0 else {}, iteration)
    queue.put((saved, hook.state_dict(), hook.is_over))
    dist.destroy_process_group()


def test_all_processes_agree(tmp_path):
    queue = mp.get_context("fork").SimpleQueue()  # a new process would import for seconds
    mp.start_processes(worker, (str(tmp_path / "init"), queue), nprocs=2, start_method="fork")
    first, second = queue.get(), queue.get()
    assert first == second
    assert first[0] == [0, 2] and first[2]
