"""The average of the weights: its numbers, its checkpoints, and what is evaluated."""

import json
import math

import pytest
import torch
from detectron2.modeling import build_model

from tests.engine.helpers import read_metrics
from tood.checkpoint import TOODCheckpointer, load_model, read_checkpoint
from tood.engine import Trainer
from tood.engine.averaging import WeightAverage
from tood.export.metadata import build_info
from tood.export.options import ExportOptions


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3))
        self.register_buffer("mean", torch.ones(2))
        self.register_buffer("count", torch.tensor(0))


@pytest.mark.parametrize("ramp_up", [0, 5])
def test_numbers(ramp_up):
    model = Model()
    average = WeightAverage(model, 0.9, ramp_up)
    weight, mean = 0.0, 1.0
    for step in range(1, 8):
        model.weight.data.fill_(step)
        model.mean.fill_(-step)
        model.count += 2
        average.update()
        decay = 0.9 * (1 - math.exp(-step / ramp_up) if ramp_up else 1)
        weight, mean = decay * weight + (1 - decay) * step, decay * mean - (1 - decay) * step
    with average.in_model():
        assert model.weight.tolist() == pytest.approx([weight] * 3)
        assert model.mean.tolist() == pytest.approx([mean] * 2)
        assert model.count == 14
    assert model.weight.tolist() == [7.0] * 3 and model.mean.tolist() == [-7.0] * 2


def test_the_weights_come_back_after_an_error():
    model = Model()
    average = WeightAverage(model, 0.5, 0)
    model.weight.data.fill_(4.0)
    average.update()
    with pytest.raises(KeyError), average.in_model():
        assert model.weight.tolist() == [2.0] * 3
        raise KeyError
    assert model.weight.tolist() == [4.0] * 3
    with pytest.raises(RuntimeError, match="in_model"):
        average.state_dict()


@pytest.fixture
def cfg(quick_cfg):
    quick_cfg.MODEL.BACKBONE.NAME = "build_tiny_bn_backbone"
    ema = quick_cfg.SOLVER.EMA
    ema.ENABLED, ema.RAMP_UP, ema.DECAY = True, 4, 0.9
    return quick_cfg


def train(cfg, folder, max_iter, resume=False):
    """Train up to an iteration of the schedule."""
    cfg = cfg.clone()
    cfg.OUTPUT_DIR = str(folder)
    torch.manual_seed(1)
    trainer = Trainer(cfg)
    trainer.max_iter = max_iter
    trainer.resume_or_load(resume)
    trainer.train()
    return trainer


def test_resumed_training_ends_with_the_same_average(cfg, tmp_path):
    """Bit for bit: average, weights and their number of updates."""
    whole = train(cfg, tmp_path / "whole", 6)
    train(cfg, tmp_path / "stopped", 4)
    resumed = train(cfg, tmp_path / "stopped", 6, resume=True)
    weights = [trainer.model.state_dict() for trainer in (whole, resumed)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    files = [
        torch.load(folder / "model_final.pth", weights_only=True)
        for folder in (tmp_path / "whole", tmp_path / "stopped")
    ]
    averages = [file["model"] for file in files]
    assert all(torch.equal(value, averages[1][name]) for name, value in averages[0].items())
    raw = whole.model.state_dict()
    assert any(not torch.equal(value, averages[0][name]) for name, value in raw.items())
    for name in ("running_mean", "running_var"):  # buffers too
        name = f"backbone.norm.{name}"
        assert not torch.equal(raw[name], averages[0][name])
    assert files[1]["tood"]["is_average"] is True
    assert files[1]["trainer"]["hooks"]["WeightAverageHook"]["num_updates"] == 6


def test_programs_get_the_average(cfg, tmp_path, caplog):
    trainer = train(cfg, tmp_path / "run", 2)
    path = str(tmp_path / "run" / "model_final.pth")
    info = read_checkpoint(path).info
    assert info is not None and info.is_average
    with caplog.at_level("INFO"):
        model = load_model(cfg, path)
        options = ExportOptions()
        assert build_info(model, cfg, options, name="a", weights=path).is_average
        assert "The weights are an average over training (EMA), and the file" in caplog.text
    assert ", an average over training (EMA). Tensors" in caplog.text
    with trainer._average.in_model():
        for name, value in trainer.model.state_dict().items():
            assert torch.equal(model.state_dict()[name], value)


def test_evaluates_the_average_and_the_weights(cfg, tmp_path, monkeypatch):
    cfg.SOLVER.EMA.EVAL_RAW = True
    seen = []

    def evaluate(cfg, model):
        seen.append((cfg.OUTPUT_DIR, {k: v.clone() for k, v in model.state_dict().items()}))
        return {"bbox": {"AP": float(len(seen))}}

    monkeypatch.setattr(Trainer, "test", staticmethod(evaluate))
    trainer = train(cfg, tmp_path / "run", 2)
    (folder, average), (raw_folder, raw) = seen
    assert raw_folder != folder == str(tmp_path / "run")
    saved = torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)["model"]
    assert all(torch.equal(saved[name], value) for name, value in average.items())
    weights = trainer.model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in raw.items())
    row = read_metrics(tmp_path / "run")[-1]
    assert (row["bbox/AP"], row["raw_bbox/AP"]) == (1.0, 2.0)


def test_starts_from_the_loaded_weights(cfg, tmp_path):
    """And a run that was trained without an average can be resumed with one."""
    cfg.SOLVER.EMA.ENABLED = False
    train(cfg, tmp_path / "run", 2)
    before = torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)["model"]
    cfg.SOLVER.EMA.ENABLED, cfg.SOLVER.EMA.DECAY, cfg.SOLVER.EMA.RAMP_UP = True, 1.0, 0
    for resume, folder in ((False, "other"), (True, "run")):
        cfg.MODEL.WEIGHTS = "" if resume else str(tmp_path / "run" / "model_final.pth")
        train(cfg, tmp_path / folder, 4, resume=resume)
        after = torch.load(tmp_path / folder / "model_final.pth", weights_only=True)["model"]
        del after["backbone.norm.num_batches_tracked"]  # a count, which has no average
        assert all(torch.equal(value, before[name]) for name, value in after.items())


def test_training_goes_on_from_an_average_that_is_switched_off(cfg, tmp_path):
    train(cfg, tmp_path / "run", 2)
    saved = torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)["model"]
    cfg.SOLVER.EMA.ENABLED, cfg.OUTPUT_DIR = False, str(tmp_path / "run")
    trainer = Trainer(cfg)
    trainer.resume_or_load(True)
    assert trainer.start_iter == 2
    weights = trainer.model.state_dict()
    assert all(torch.equal(saved[name], value) for name, value in weights.items())


def test_model_with_an_average_can_be_fine_tuned(cfg, tmp_path):
    train(cfg, tmp_path / "run", 2)
    model = build_model(cfg)
    TOODCheckpointer(model).load(str(tmp_path / "run" / "model_final.pth"))
    saved = torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)["model"]
    assert all(torch.equal(saved[name], value) for name, value in model.state_dict().items())
    assert json.loads((tmp_path / "run" / "metrics.json").read_text().splitlines()[-1])
