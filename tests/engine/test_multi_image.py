"""Mosaic and mix-up end at their iteration, also in a run that was resumed."""

from unittest import mock

import pytest
import torch

from tests.engine.helpers import train_without_tests
from tood.cli.show_batch import build_batches
from tood.engine import Trainer
from tood.engine.hooks import build_precise_bn
from tood.engine.schedule import convert_epochs, multi_image_end
from tood.errors import ConfigError


@pytest.mark.parametrize(
    "solver, images, epochs, expected",
    [
        ({"MAX_ITER": 100, "IMS_PER_BATCH": 4}, 10, 1, 97),  # 2.5 iterations
        ({"MAX_ITER": 100, "IMS_PER_BATCH": 4}, 10, 1.5, 96),
        ({"MAX_ITER": 100, "IMS_PER_BATCH": 4}, 10, 0, 100),
        ({"EPOCHS": 12, "IMS_PER_BATCH": 4}, 10, 1, 33),  # 3 iterations each
        ({"EPOCHS": 12, "IMS_PER_BATCH": 16}, 117266, 2, 73300),
        ({"EPOCHS": 12, "IMS_PER_BATCH": 16}, 117266, 0.5, 84295),
    ],
)
def test_end(tiny_cfg, solver, images, epochs, expected):
    for key, value in solver.items():
        tiny_cfg.SOLVER[key] = value
    tiny_cfg.INPUT.MULTI_IMAGE_OFF_EPOCHS = epochs
    cfg = convert_epochs(tiny_cfg, images)
    assert multi_image_end(cfg, images) is None
    for name in ("MOSAIC", "MIXUP"):
        changed = cfg.clone()
        changed.INPUT[name].ENABLED = True
        assert multi_image_end(changed, images) == expected


def test_never_used(tiny_cfg):
    tiny_cfg.INPUT.MIXUP.ENABLED = True
    tiny_cfg.SOLVER.MAX_ITER, tiny_cfg.SOLVER.IMS_PER_BATCH = 25, 4
    with pytest.raises(ConfigError, match=r"OFF_EPOCHS is 1, 25 iterations, but training has only"):
        multi_image_end(tiny_cfg, 100)


def batches_seen(cfg, monkeypatch, until=None, resume=False) -> dict[int, list]:
    """Iteration -> the images that it got; nothing is learned."""
    seen = {}

    def run_step(self) -> None:
        batch = next(self._trainer._data_loader_iter)
        seen[self.iter] = [sample["image"].numpy().tobytes() for sample in batch]

    monkeypatch.setattr(Trainer, "run_step", run_step)
    train_without_tests(cfg, until, resume)
    return seen


@pytest.fixture
def mosaic_cfg(quick_cfg):
    """8 images, batches of 2: mosaics in the first 2 of 6 iterations."""
    quick_cfg.INPUT.MOSAIC.ENABLED, quick_cfg.INPUT.MOSAIC.PROB = True, 1.0
    quick_cfg.DATALOADER.NUM_WORKERS = 1
    return quick_cfg


def test_shown_batches_are_those_of_the_training(mosaic_cfg, monkeypatch):
    """``tood show-batch``, with the same seed."""
    seen = batches_seen(mosaic_cfg, monkeypatch)
    _, batches = build_batches(mosaic_cfg.clone(), 0)
    for iteration, batch in zip(seen, batches, strict=False):
        assert [x["image"].numpy().tobytes() for x in batch] == seen[iteration]
    assert list(seen) == list(range(6))


def test_off_at_its_iteration(mosaic_cfg, monkeypatch, tmp_path):
    """Also in a run that is resumed, once before and once after it."""
    mosaic_cfg.OUTPUT_DIR = str(tmp_path / "whole")
    seen = batches_seen(mosaic_cfg, monkeypatch)
    plain_cfg = mosaic_cfg.clone()
    plain_cfg.INPUT.MOSAIC.ENABLED, plain_cfg.OUTPUT_DIR = False, str(tmp_path / "plain")
    plain = batches_seen(plain_cfg, monkeypatch)
    assert [seen[i] == plain[i] for i in range(6)] == [False, False, True, True, True, True]
    mosaic_cfg.OUTPUT_DIR, mosaic_cfg.SOLVER.CHECKPOINT_PERIOD = str(tmp_path / "stopped"), 1
    parts = [
        batches_seen(mosaic_cfg, monkeypatch, until=1),
        batches_seen(mosaic_cfg, monkeypatch, until=3, resume=True),
        batches_seen(mosaic_cfg, monkeypatch, resume=True),
    ]
    assert [sorted(part) for part in parts] == [[0], [1, 2], [3, 4, 5]]
    assert {**parts[0], **parts[1], **parts[2]} == seen


def test_a_longer_training_has_a_later_end(mosaic_cfg, monkeypatch):
    """The config that is resumed decides."""
    mosaic_cfg.SOLVER.CHECKPOINT_PERIOD = 3
    batches_seen(mosaic_cfg, monkeypatch, until=3)
    mosaic_cfg.SOLVER.MAX_ITER = 9
    again = batches_seen(mosaic_cfg, monkeypatch, resume=True)
    mosaic_cfg.INPUT.MOSAIC.ENABLED = False
    mosaic_cfg.OUTPUT_DIR += "/plain"
    plain = batches_seen(mosaic_cfg, monkeypatch)
    assert [again[i] == plain[i] for i in range(3, 9)] == [False] * 2 + [True] * 4


def test_exact_statistics_see_single_images(mosaic_cfg):
    """As evaluation does."""
    mosaic_cfg.TEST.PRECISE_BN.ENABLED, mosaic_cfg.TEST.EVAL_PERIOD = True, 1
    build = mock.Mock(return_value=[])
    build_precise_bn(mosaic_cfg, torch.nn.BatchNorm2d(1), build)
    (cfg,) = build.call_args.args
    assert not cfg.INPUT.MOSAIC.ENABLED and mosaic_cfg.INPUT.MOSAIC.ENABLED
