"""Epochs and iterations."""

import logging
from unittest import mock

import pytest
import torch
from detectron2.engine import DefaultTrainer
from detectron2.solver import build_lr_scheduler
from detectron2.utils import comm

from tests.engine.helpers import train_without_tests
from tests.helpers import CONFIGS
from tood.config.loading import load_config, load_config_text
from tood.data import TrainLoader, build_train_loader
from tood.engine import PhaseHook, Trainer, epochs_to_iters
from tood.engine.schedule import (
    convert_epochs,
    iters_to_epochs,
    scale_lr,
    schedule_epochs,
    warmup_phase_length,
)
from tood.errors import ConfigError


@pytest.mark.parametrize(
    "epochs, images, batch, expected",
    [
        (4, 117266, 16, 29317),
        (4, 117266, 2, 234532),
        (0, 100, 8, 0),
        (1, 10, 4, 3),
        (4, 8, 8, 4),
        (1.5, 10, 4, 4),
    ],
)
def test_epochs_to_iters(epochs, images, batch, expected):
    assert epochs_to_iters(epochs, images, batch) == expected


def test_iters_to_epochs():
    assert iters_to_epochs(90000, 117266, 16) == pytest.approx(12.28, abs=0.01)
    assert iters_to_epochs(epochs_to_iters(3, 40, 8), 40, 8) == 3


def test_published_configs_set_the_reference_world_size():
    cfg = load_config(str(CONFIGS / "TOOD-R50-1x.yaml"), [])
    assert cfg.SOLVER.REFERENCE_WORLD_SIZE == 8
    one = DefaultTrainer.auto_scale_workers(cfg, 1)
    assert (one.SOLVER.IMS_PER_BATCH, one.SOLVER.MAX_ITER) == (2, 720000)
    assert pytest.approx(0.00125) == one.SOLVER.BASE_LR
    assert epochs_to_iters(4, 117266, one.SOLVER.IMS_PER_BATCH) == 234532


COCO = 117_266  # images with usable boxes


def coco_cfg(**solver):
    """TOOD-R50-1x for 12 epochs."""
    cfg = load_config(str(CONFIGS / "TOOD-R50-1x.yaml"), ["SOLVER.EPOCHS", "12"])
    for key, value in solver.items():
        cfg.SOLVER[key] = value
    return cfg


@pytest.mark.parametrize("steps", [(8, 11), ()])
def test_epochs_of_coco(steps):
    """7329.1 iterations, so 7330 for each epoch; detectron2's schedule has 7500."""
    cfg = convert_epochs(coco_cfg(EPOCH_STEPS=steps), COCO)
    assert cfg.SOLVER.MAX_ITER == 87_960
    assert cfg.SOLVER.STEPS == (58_640, 80_630)
    assert warmup_phase_length(cfg, COCO) == 29_320
    assert warmup_phase_length(coco_cfg(EPOCHS=0), COCO) == 29_317
    # What a checkpoint or a config.yaml holds gives the same schedule again.
    assert convert_epochs(cfg, COCO) == cfg
    optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=cfg.SOLVER.BASE_LR)
    multiplier = build_lr_scheduler(cfg, optimizer)._multiplier
    places = (58_639, 58_640, 80_629, 80_630, 87_959)
    rates = [cfg.SOLVER.BASE_LR * multiplier(place / cfg.SOLVER.MAX_ITER) for place in places]
    assert rates == pytest.approx([0.01, 0.001, 0.001, 0.0001, 0.0001])


def test_epochs_of_another_number_of_gpus(monkeypatch):
    """Written for 16 images on 8 GPUs: 2 images on one, 32 on 16."""
    cfg = coco_cfg(EPOCH_STEPS=(8, 11))
    cfg.TEST.EVAL_EPOCHS = 2
    loader = TrainLoader([], COCO)
    for gpus, length in ((1, 58_633), (8, 7_330), (16, 3_665)):
        monkeypatch.setattr(comm, "get_world_size", lambda gpus=gpus: gpus)
        seen = []
        converted, built = schedule_epochs(cfg, lambda cfg, seen=seen: seen.append(cfg) or loader)
        assert built is loader and seen[0].SOLVER.IMS_PER_BATCH == 2 * gpus
        solver = converted.SOLVER
        assert (solver.MAX_ITER, solver.STEPS) == (12 * length, (8 * length, 11 * length))
        assert pytest.approx(0.01 * gpus / 8) == solver.BASE_LR
        assert converted.TEST.EVAL_PERIOD == 2 * length
        # detectron2's constructor rescales what is given in iterations, and finds nothing to do.
        assert DefaultTrainer.auto_scale_workers(converted, gpus) is converted
    assert cfg.SOLVER.MAX_ITER == 90_000 and cfg.SOLVER.IMS_PER_BATCH == 16


def test_no_epochs_no_change(tiny_cfg):
    assert schedule_epochs(tiny_cfg, mock.Mock(side_effect=AssertionError)) == (tiny_cfg, None)


@pytest.mark.parametrize(
    "epochs, images, steps",
    [(1, 3, ()), (2, 3, (1,)), (3, 3, (2,)), (12, 3, (8, 11)), (5, 33, (10, 14))],
)
def test_steps_of_short_schedules(tiny_cfg, epochs, images, steps):
    """8/12 and 11/12 are rounded; equal steps and those at the end are left out."""
    tiny_cfg.SOLVER.EPOCHS, tiny_cfg.SOLVER.WARMUP_ITERS = epochs, 0
    cfg = convert_epochs(tiny_cfg, images)
    assert cfg.SOLVER.STEPS == steps
    optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=0.1)
    build_lr_scheduler(cfg, optimizer)


def test_warmup_phase_of_few_images(tiny_cfg):
    """An epoch of 3 images takes one iteration of 16 images, in both phases."""
    tiny_cfg.SOLVER.EPOCHS = 12
    assert warmup_phase_length(tiny_cfg, 3) == 4
    tiny_cfg.MODEL.TOOD.WARMUP.EPOCHS = 1.1
    assert warmup_phase_length(tiny_cfg, 160) == 11


def test_the_schedule_is_said(tiny_cfg, caplog):
    caplog.set_level(logging.INFO)
    tiny_cfg.SOLVER.EPOCHS = 12
    convert_epochs(tiny_cfg, 100)
    assert (
        "SOLVER.EPOCHS 12 replaces MAX_ITER and STEPS: 84 iterations, 7 for each epoch of 100 "
        "images. The learning rate drops at 56, 77." in caplog.text
    )
    assert "SOLVER.WARMUP_ITERS 500, takes more than half of the 84 iterations" in caplog.text
    caplog.clear()
    tiny_cfg.SOLVER.LR_SCHEDULER_NAME, tiny_cfg.SOLVER.WARMUP_ITERS = "WarmupCosineLR", 42
    convert_epochs(tiny_cfg, 100)
    assert "drops" not in caplog.text and "WARMUP_ITERS" not in caplog.text
    tiny_cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupStepWithFixedGammaLR"
    tiny_cfg.SOLVER.WARMUP_ITERS = 84
    with pytest.raises(ConfigError, match=r"fewer than SOLVER\.MAX_ITER, 84"):
        convert_epochs(tiny_cfg, 100)


def test_trainer_counts_what_the_sampler_draws(run_cfg, monkeypatch):
    """4 of 8 images, 3 at a time, from one training loader."""
    run_cfg.DATALOADER.SAMPLER_TRAIN = "RandomSubsetTrainingSampler"
    run_cfg.DATALOADER.RANDOM_SUBSET_RATIO = 0.5
    run_cfg.SOLVER.IMS_PER_BATCH, run_cfg.SOLVER.EPOCHS = 3, 6
    run_cfg.TEST.EVAL_EPOCHS = 3
    built = []

    class Counting(Trainer):
        @classmethod
        def build_train_loader(cls, cfg):
            built.append(cfg)
            return build_train_loader(cfg)

    trainer = Counting(run_cfg)
    assert len(built) == 1 and "build_train_loader" not in vars(trainer)
    assert trainer.num_train_images == 4
    assert trainer.max_iter == trainer.cfg.SOLVER.MAX_ITER == 12
    assert trainer.cfg.SOLVER.STEPS == (8, 11) and trainer.cfg.TEST.EVAL_PERIOD == 6
    (hook,) = [h for h in trainer._hooks if isinstance(h, PhaseHook)]
    assert hook.warmup_iters == 2
    assert run_cfg.SOLVER.MAX_ITER == 6 and run_cfg.SOLVER.STEPS == ()


def test_epochs_are_resumed_exactly(quick_cfg, tmp_path, caplog):
    """2 epochs of 4 iterations, stopped after 3: the same weights, and nothing has changed."""
    solver = quick_cfg.SOLVER
    solver.EPOCHS, solver.EPOCH_STEPS, solver.WARMUP_ITERS, solver.BASE_LR = 2, (1,), 2, 1e-3
    quick_cfg.OUTPUT_DIR = str(tmp_path / "whole")
    whole = train_without_tests(quick_cfg)
    assert whole.iter == 8
    quick_cfg.OUTPUT_DIR = str(tmp_path / "parts")
    train_without_tests(quick_cfg, until=3)
    caplog.clear()
    again = train_without_tests(quick_cfg, resume=True)
    assert again.start_iter == 3 and again.iter == 8
    assert "from here on" not in caplog.text
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    rates = [group["lr"] for group in again.optimizer.param_groups]
    assert rates == pytest.approx([1e-4] * len(rates))


def test_other_epochs_and_batch_on_resume(quick_cfg, caplog):
    """More epochs go on at the same iteration; another batch keeps the place in the epochs."""
    quick_cfg.SOLVER.EPOCHS = 2
    train_without_tests(quick_cfg, until=4)
    quick_cfg.SOLVER.EPOCHS = 3
    trainer = Trainer(quick_cfg)
    trainer.resume_or_load(resume=True)
    assert (trainer.start_iter, trainer.max_iter) == (4, 12)
    assert "SOLVER.EPOCHS is 3 from here on; the checkpoint was trained with 2" in caplog.text
    caplog.clear()
    quick_cfg.SOLVER.IMS_PER_BATCH, quick_cfg.SOLVER.BASE_LR = 4, 0.5
    trainer = Trainer(quick_cfg)
    trainer.resume_or_load(resume=True)
    assert (trainer.start_iter, trainer.max_iter) == (2, 6)
    assert "iterations of the checkpoint are multiplied by 0.5" in caplog.text
    assert "SOLVER.MAX_ITER is" not in caplog.text
    assert "SOLVER.BASE_LR is 0.5 from here on" in caplog.text


@pytest.mark.parametrize(
    "batch, reference, rate", [(4, 16, 0.0025), (32, 16, 0.02), (8, 32, 0.0025)]
)
def test_learning_rate_of_the_batch(tiny_cfg, caplog, batch, reference, rate):
    caplog.set_level(logging.INFO)
    solver = tiny_cfg.SOLVER
    solver.IMS_PER_BATCH, solver.REFERENCE_BATCH_SIZE = batch, reference
    assert scale_lr(tiny_cfg) is tiny_cfg
    solver.AUTO_SCALE_LR = True
    tiny_cfg.freeze()
    scaled = scale_lr(tiny_cfg)
    assert scaled.SOLVER.BASE_LR == pytest.approx(rate)
    assert solver.BASE_LR == 0.01 and scaled.is_frozen()
    assert f"is {rate:g} for {batch} images, in proportion to 0.01 for {reference}" in caplog.text
    # A checkpoint holds the scaled config: its rate stays, and follows another batch.
    assert scale_lr(scaled) is scaled
    scaled.defrost()
    scaled.SOLVER.IMS_PER_BATCH = 16
    assert scale_lr(scaled).SOLVER.BASE_LR == pytest.approx(0.01 * 16 / reference)


def test_cosine_keeps_its_shape(tiny_cfg):
    solver = tiny_cfg.SOLVER
    if "BASE_LR_END" not in solver:
        pytest.skip("not in detectron2 0.4")
    solver.IMS_PER_BATCH, solver.AUTO_SCALE_LR, solver.BASE_LR_END = 4, True, 0.001
    assert scale_lr(tiny_cfg).SOLVER.BASE_LR_END == pytest.approx(0.00025)


def test_scaled_learning_rate_is_resumed(run_cfg, caplog):
    """The rate is scaled once: the same after a resume, and in a training from the checkpoint."""
    run_cfg.SOLVER.AUTO_SCALE_LR, run_cfg.SOLVER.WARMUP_ITERS = True, 0
    train_without_tests(run_cfg, until=3)
    caplog.clear()
    again = Trainer(run_cfg)
    again.resume_or_load(resume=True)
    assert again.start_iter == 3 and "from here on" not in caplog.text
    assert {group["lr"] for group in again.optimizer.param_groups} == {0.01 * 2 / 16}
    saved = load_config_text(again.checkpoint_info().config, "a checkpoint")
    from_checkpoint = Trainer(saved)
    assert from_checkpoint.cfg.SOLVER.BASE_LR == again.cfg.SOLVER.BASE_LR == 0.01 * 2 / 16
    # Another batch on resume: said with the rate that it gives.
    run_cfg.SOLVER.IMS_PER_BATCH = 4
    other = Trainer(run_cfg)
    other.resume_or_load(resume=True)
    assert {group["lr"] for group in other.optimizer.param_groups} == {0.01 * 4 / 16}
    assert "SOLVER.BASE_LR is 0.0025 from here on" in caplog.text
    assert "REFERENCE_BATCH_SIZE" not in caplog.text


def test_config_for_your_own_data():
    """1000 images, 4 at a time: 250 iterations of an epoch, and a quarter of the rate for 16."""
    cfg = scale_lr(load_config("custom/TOOD-R50"))
    cfg = convert_epochs(cfg, 1000)
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS) == (6000, (4000, 5500))
    assert pytest.approx(0.0025) == cfg.SOLVER.BASE_LR
    assert cfg.TEST.EVAL_PERIOD == 250
    published = load_config("TOOD-R50-1x")
    assert cfg.MODEL == published.MODEL and cfg.INPUT == published.INPUT
