"""The same seed gives the same training, bit for bit, with any number of workers."""

import torch

from tests.engine.helpers import read_metrics
from tests.engine.kill_runner import CLOCKS
from tests.helpers import ROOT
from tood.config.imports import import_custom
from tood.engine import Trainer


def train(cfg, folder, num_workers: int, seed: int = 1):
    cfg = cfg.clone()
    cfg.OUTPUT_DIR, cfg.DATALOADER.NUM_WORKERS, cfg.SEED = str(folder), num_workers, seed
    torch.manual_seed(seed)
    trainer = Trainer(cfg)
    trainer.train()
    rows = [{k: v for k, v in row.items() if k not in CLOCKS} for row in read_metrics(folder)]
    return trainer.model.state_dict(), rows


def test_same_seed_same_metrics(run_cfg, tmp_path):
    import_custom(str(ROOT / "tests/tiny_backbone.py"))
    run_cfg.MODEL.BACKBONE.NAME = "build_tiny_backbone"
    run_cfg.INPUT.MIN_SIZE_TRAIN, run_cfg.INPUT.CROP.ENABLED = (48, 64), True
    runs = [train(run_cfg, tmp_path / str(n), n) for n in (0, 2)]
    other = train(run_cfg, tmp_path / "other", 0, seed=2)
    weights, metrics = zip(*runs, strict=True)
    assert str(metrics[0]) == str(metrics[1])  # NaN of a metric is not equal to itself
    assert str(metrics[0]) != str(other[1])
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
