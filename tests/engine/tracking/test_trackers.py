"""W&B and MLflow with the real packages: offline, and in a store of files."""

import json
import os
import signal

import pytest
import torch

from tests.engine.helpers import read_metrics
from tests.engine.tracking.wandb_files import read_runs
from tood.engine import Trainer
from tood.engine.signals import TrainingInterrupted
from tood.errors import ConfigError

SECRET = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cfg(quick_cfg, monkeypatch, tmp_path):
    """41 iterations; an evaluation between two lines of metrics."""
    cfg = quick_cfg
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD = 41, 10, 30
    cfg.OUTPUT_DIR = str(tmp_path / "my-run")
    cfg.SOLVER.CHECKPOINT_KEEP = 1
    cfg.TRACKING.TAGS = ["small", "two words"]
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setattr(Trainer, "test", lambda *_: {"bbox": {"AP": 12.5, "AP-café": float("nan")}})
    return cfg


@pytest.fixture
def wandb(cfg):
    pytest.importorskip("wandb")
    cfg.TRACKING.TRACKERS = ["wandb"]
    return cfg


@pytest.fixture
def mlflow(cfg):
    pytest.importorskip("mlflow")
    cfg.TRACKING.TRACKERS = ["mlflow"]
    return cfg


class QuickTrainer(Trainer):
    """Its steps are no steps, but have metrics."""

    def run_step(self):
        self.storage.put_scalar("total_loss", 1 / (self.iter + 1))


def train(cfg, *, resume=False, stop_after=None, error=None, run_id="run"):
    """Train, up to an iteration after which the process gets a signal or an error."""
    torch.manual_seed(0)
    trainer = QuickTrainer(cfg, run_id)
    trainer.resume_or_load(resume=resume)
    step = trainer.run_step

    def run_step():
        step()
        if trainer.iter == stop_after:
            if error is not None:
                raise error
            os.kill(os.getpid(), signal.SIGTERM)

    trainer.run_step = run_step
    trainer.train()
    return trainer


def expected_rows(folder) -> dict[int, dict]:
    """What metrics.json has, by iteration."""
    rows: dict[int, dict] = {}
    for row in read_metrics(folder):
        rows.setdefault(row.pop("iteration"), {}).update(row)
    return rows


def wandb_rows(runs) -> list[tuple[int, dict]]:
    rows = []
    for run in runs:
        for row in run["history"]:
            names = {key: value for key, value in row.items() if not key.startswith("_")}
            rows.append((names.pop("iteration"), names))
    return rows


def mlflow_run(cfg):
    from mlflow import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name(cfg.TRACKING.PROJECT)
    return client, client.search_runs([experiment.experiment_id], order_by=["start_time"])


def mlflow_rows(client, run) -> list[tuple[int, str, float]]:
    return [
        (metric.step, name, metric.value)
        for name in run.data.metrics
        for metric in client.get_metric_history(run.info.run_id, name)
    ]


def as_set(rows: dict[int, dict]) -> list[tuple[int, str, str]]:
    """Comparable also with NaN."""
    return sorted((i, k, repr(float(v))) for i, row in rows.items() for k, v in row.items())


def assert_no_secret(folder):
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert SECRET.encode() not in path.read_bytes(), path


def test_wandb(wandb, tmp_path):
    wandb.MODEL.WEIGHTS = ""
    train(wandb)
    (run,) = read_runs(tmp_path / "my-run")
    assert run["project"] == "tood" and run["name"] == "my-run" and run["exit"] == 0
    assert run["tags"] == ["small", "two words"] and not run["preempting"]
    assert run["config"]["SOLVER"]["MAX_ITER"] == 41
    assert run["config"]["versions"]["torch"] == torch.__version__
    rows = wandb_rows([run])
    assert [iteration for iteration, _ in rows] == [19, 29, 39, 40, 41]
    expected = expected_rows(tmp_path / "my-run")
    assert as_set(dict(rows)) == as_set(expected) and dict(rows)[29]["bbox/AP"] == 12.5
    assert [row["_step"] for row in run["history"]] == [19, 29, 39, 40, 41]
    assert_no_secret(tmp_path)


def test_wandb_continues_after_a_signal(wandb, tmp_path):
    """Each iteration is there once, in the same run."""
    with pytest.raises(TrainingInterrupted):
        train(wandb, stop_after=32)
    (first,) = read_runs(tmp_path / "my-run")
    assert first["preempting"] and first["exit"] == 1
    assert [iteration for iteration, _ in wandb_rows([first])] == [19, 29, 32]
    wandb.SOLVER.BASE_LR *= 2
    train(wandb, resume=True)
    runs = read_runs(tmp_path / "my-run")
    assert len(runs) == 2 and runs[0]["id"] == runs[1]["id"] and runs[1]["exit"] == 0
    rows = wandb_rows(runs)
    assert [iteration for iteration, _ in rows] == [19, 29, 32, 39, 40, 41]
    expected = expected_rows(tmp_path / "my-run")
    assert as_set(dict(rows[-3:])) == as_set({i: expected[i] for i in (39, 40, 41)})


def test_mlflow(mlflow, tmp_path):
    mlflow.TRACKING.PROJECT, mlflow.TRACKING.RUN_NAME = "shapes", "first"
    train(mlflow)
    client, (run,) = mlflow_run(mlflow)
    assert run.info.status == "FINISHED" and run.info.run_name == "first"
    assert run.data.params["SOLVER.MAX_ITER"] == "41" and run.data.tags["two words"] == "true"
    assert run.data.params["versions.torch"] == torch.__version__
    rows = [(i, k.replace("_xe9_", "é"), repr(v)) for i, k, v in mlflow_rows(client, run)]
    assert sorted(rows) == as_set(expected_rows(tmp_path / "my-run"))
    assert_no_secret(tmp_path)


def test_mlflow_continues_after_a_crash(mlflow, tmp_path):
    with pytest.raises(RuntimeError, match="boom"):
        train(mlflow, stop_after=32, error=RuntimeError("boom"))
    client, (run,) = mlflow_run(mlflow)
    assert run.info.status == "FAILED"
    mlflow.SOLVER.BASE_LR *= 2
    train(mlflow, resume=True)
    client, (run,) = mlflow_run(mlflow)
    assert run.info.status == "FINISHED"
    assert run.data.tags["changed.SOLVER.BASE_LR"] == str(mlflow.SOLVER.BASE_LR)
    rows = [(step, name) for step, name, _ in mlflow_rows(client, run)]
    assert len(rows) == len(set(rows)) and {step for step, _ in rows} >= {19, 29, 39, 40}


def test_mlflow_after_a_signal_and_with_a_deleted_run(mlflow):
    with pytest.raises(TrainingInterrupted):
        train(mlflow, stop_after=22)
    client, (run,) = mlflow_run(mlflow)
    assert run.info.status == "KILLED"
    client.delete_run(run.info.run_id)
    train(mlflow, resume=True)
    client, (other,) = mlflow_run(mlflow)
    assert other.info.run_id != run.info.run_id
    assert {step for step, _, _ in mlflow_rows(client, other)} >= {19, 29, 39, 40}


def test_another_training_is_another_run(mlflow):
    """Also one that starts over in the same folder."""
    for run_id in ("run", "run", "other"):
        train(mlflow, run_id=run_id)
    client, runs = mlflow_run(mlflow)
    assert [run.info.status for run in runs] == ["FINISHED"] * 3
    assert all(len(mlflow_rows(client, run)) == len(mlflow_rows(client, runs[0])) for run in runs)


def test_the_last_evaluation_fails(mlflow, monkeypatch):
    """It is the last hook but one, and the run is closed all the same."""

    def fail(*_):
        raise RuntimeError("boom")

    mlflow.TEST.EVAL_PERIOD = 0
    monkeypatch.setattr(Trainer, "test", fail)
    with pytest.raises(RuntimeError, match="boom"):
        train(mlflow)
    _, (run,) = mlflow_run(mlflow)
    assert run.info.status == "FAILED"


def test_a_server_that_does_not_answer(mlflow, monkeypatch, tmp_path, caplog):
    """The training goes on, and a resume sends everything later. No password is logged."""
    server = "http://somebody:pa55word@127.0.0.1:9"
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", server)
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        train(mlflow)
    warnings = [r.getMessage() for r in caplog.records if r.name.endswith("tracking.sender")]
    assert len(warnings) == 2, warnings
    assert warnings[0].startswith("MLflow cannot be reached") and "pa55word" not in caplog.text
    assert warnings[1].startswith("MLflow lacks the last 5 lines of metrics.json")
    train(mlflow, resume=True)
    client, (run,) = mlflow_run(mlflow)
    rows = [(i, k.replace("_xe9_", "é"), repr(v)) for i, k, v in mlflow_rows(client, run)]
    assert sorted(rows) == as_set(expected_rows(tmp_path / "my-run"))


def test_wandb_without_a_login(wandb, monkeypatch):
    module = pytest.importorskip("wandb")

    def init(**_):
        raise module.errors.UsageError("No API key configured.")

    monkeypatch.setattr(module, "init", init)
    with pytest.raises(ConfigError, match=r"W&B cannot be used: No API key .*wandb login"):
        train(wandb)


def test_wandb_that_cannot_be_reached(wandb, monkeypatch, tmp_path, caplog):
    """The run is logged offline."""
    module = pytest.importorskip("wandb")
    original = module.init

    def init(**options):
        if options["mode"] != "offline":
            raise module.errors.CommError(f"Run initialization has timed out with {SECRET}")
        return original(**options)

    monkeypatch.setattr(module, "init", init)
    train(wandb)
    (run,) = read_runs(tmp_path / "my-run")
    assert [iteration for iteration, _ in wandb_rows([run])] == [19, 29, 39, 40, 41]
    assert caplog.text.count("timed out with ***. The run is logged offline") == 1


@pytest.mark.parametrize("store", ["files", "nothing"])
def test_mlflow_store_that_cannot_be_used(mlflow, monkeypatch, store):
    if store == "files":
        from mlflow import environment_variables

        if not hasattr(environment_variables, "MLFLOW_ALLOW_FILE_STORE"):
            pytest.skip("this version of MLflow allows it")
        monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "nothing://here")
    with pytest.raises(ConfigError, match="MLflow cannot be used: .*Set MLFLOW_TRACKING_URI"):
        train(mlflow)


def test_records_are_small_and_hold_no_secret(wandb, tmp_path):
    train(wandb)
    record = json.loads((tmp_path / "my-run/trackers/wandb.json").read_text())
    assert record["iteration"] == 41 and record["training"] == "run"
