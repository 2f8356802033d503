"""When checkpoints are written, and what stops a training."""

import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from tood.engine.hooks import CheckpointHook
from tood.engine.signals import StopRequest, TrainingInterrupted
from tood.errors import DataError


def run_hook(tmp_path: Path, iterations: int, max_iter: int = 10, **options) -> CheckpointHook:
    """Run the hook; a checkpoint is a file that holds its iteration."""

    def save(name: str) -> Path:
        path = tmp_path / f"{name}.pth"
        path.write_text(str(hook.trainer.iter))
        (tmp_path / "last_checkpoint").write_text(path.name)
        return path

    options = {"period": 0, "stop": StopRequest(), "folder": tmp_path, **options}
    hook = CheckpointHook(save, options.pop("stop"), **options)
    hook.trainer = SimpleNamespace(iter=0, max_iter=max_iter)
    hook.before_train()
    for hook.trainer.iter in range(iterations):
        hook.after_step()
    return hook


def saved(tmp_path: Path) -> list[str]:
    return sorted(path.stem for path in tmp_path.glob("*.pth"))


def test_checkpoints_of_the_period_stay(tmp_path):
    run_hook(tmp_path, 10, period=3)
    assert saved(tmp_path) == ["model_0000002", "model_0000005", "model_0000008", "model_final"]
    assert (tmp_path / "model_final.pth").read_text() == "9"


def test_checkpoints_before_evaluations_replace_each_other(tmp_path):
    """Evaluations after 2, 4, 6, 8; the period keeps that after 6 for good."""
    run_hook(tmp_path, 9, period=6, eval_period=2)
    assert saved(tmp_path) == ["model_0000003", "model_0000005", "model_0000007"]


def test_files_that_replace_each_other_are_known_after_a_resume(tmp_path):
    state = run_hook(tmp_path, 4, eval_period=2).state_dict()
    hook = run_hook(tmp_path, 0)
    hook.load_state_dict(state)
    hook._eval_period = 2
    for hook.trainer.iter in range(4, 8):
        hook.after_step()
    assert saved(tmp_path) == ["model_0000005", "model_0000007"]


def test_checkpoint_by_time(tmp_path, monkeypatch):
    """One minute an iteration, at most 3 minutes between checkpoints."""
    clock = iter(range(0, 10**6, 60))
    monkeypatch.setattr("tood.engine.hooks.checkpoint.time.monotonic", lambda: next(clock))
    run_hook(tmp_path, 9, minutes=3)
    assert len(saved(tmp_path)) == 2
    assert "model_final" not in saved(tmp_path)


@pytest.mark.parametrize(
    "signum, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138)]
)
def test_signal_saves_and_stops(tmp_path, caplog, signum, code):
    stop = StopRequest()
    stop.signum = signum
    with pytest.raises(TrainingInterrupted) as interrupted:
        run_hook(tmp_path, 5, stop=stop)
    assert interrupted.value.code == code
    assert saved(tmp_path) == ["model_0000000"]
    assert f"Stopped by {signum.name} after iteration 0" in caplog.text
    assert "--resume" in caplog.text


def test_signal_in_the_last_iteration(tmp_path):
    stop = StopRequest()
    stop.signum = signal.SIGTERM
    with pytest.raises(TrainingInterrupted):
        run_hook(tmp_path, 1, max_iter=1, stop=stop)
    assert saved(tmp_path) == ["model_final"]


@pytest.mark.parametrize("limit", [1, 2])
def test_unreadable_images(tmp_path, limit):
    options = {"bad_images": lambda: ["a.jpg", "b.jpg"], "max_bad_images": limit}
    if limit == 2:
        run_hook(tmp_path, 1, **options)
        return
    with pytest.raises(DataError, match="2 training images are unreadable, for example a.jpg"):
        run_hook(tmp_path, 1, **options)


@pytest.mark.parametrize("keep, kept", [(1, ["0000008"]), (2, ["0000005", "0000008"])])
def test_last_checkpoints_of_the_period_stay(tmp_path, keep, kept):
    """Those before evaluations, of which two stay, are not counted; the best one stays."""
    (tmp_path / "model_best.pth").write_text("")
    run_hook(tmp_path, 11, max_iter=11, period=3, eval_period=2, keep=keep)
    rolling = ["model_0000007", "model_0000009"]
    expected = [f"model_{name}" for name in kept]
    assert saved(tmp_path) == sorted([*expected, *rolling, "model_best", "model_final"])


def test_fewer_are_kept_from_a_resume_on(tmp_path):
    state = run_hook(tmp_path, 6, period=1).state_dict()
    assert len(saved(tmp_path)) == 6
    hook = run_hook(tmp_path, 0, period=1, keep=2)
    hook.load_state_dict(state)
    hook.trainer.iter = 6
    hook.after_step()
    assert saved(tmp_path) == ["model_0000005", "model_0000006"]


@pytest.mark.parametrize("options", [{"period": 1, "keep": 2}, {"eval_period": 1}])
def test_killed_before_a_file_was_removed(tmp_path, options):
    """The checkpoint names it, and a resume removes it."""
    states = []
    hook = run_hook(tmp_path, 2, **options)
    save = hook._save
    hook._save = lambda name: (states.append(hook.state_dict()), save(name))
    hook._remove_outdated = lambda: None  # killed here
    hook.trainer.iter = 2
    hook.after_step()
    assert len(saved(tmp_path)) == 3
    again = run_hook(tmp_path, 0, **options)
    again.load_state_dict(states[-1])
    again.before_train()
    assert saved(tmp_path) == ["model_0000001", "model_0000002"]


def test_checkpoint_in_use_is_not_removed(tmp_path, caplog):
    """The run resumed from an earlier one; until the next is written, this is the last."""
    state = run_hook(tmp_path, 3, period=1).state_dict()
    state["periodic"], state["outdated"] = ["model_0000001"], ["model_0000002", "model_0000000"]
    hook = run_hook(tmp_path, 0, period=1, keep=1)
    hook.load_state_dict(state)
    hook.before_train()
    assert saved(tmp_path) == ["model_0000001", "model_0000002"]


def test_iteration_that_is_saved_again(tmp_path):
    """Other iterations of the same number: the new file is not the one that is removed."""
    hook = run_hook(tmp_path, 0, period=1, keep=2)
    hook.load_state_dict({"rolling": [], "periodic": ["model_0000003", "model_0000007"]})
    for hook.trainer.iter in (3, 4):
        hook.after_step()
    assert saved(tmp_path) == ["model_0000003", "model_0000004"]


def test_file_that_cannot_be_removed(tmp_path, monkeypatch, caplog):
    def fail(*_, **__):
        raise OSError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", fail)
    run_hook(tmp_path, 2, period=1, keep=1)
    assert "model_0000000.pth cannot be removed: Permission denied." in caplog.text
