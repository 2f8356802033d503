"""The lines that training logs."""

import logging

import pytest
import torch
from detectron2.utils.events import EventStorage

from tood.engine.writers import AssignmentPrinter, ProgressPrinter


@pytest.fixture
def storage(caplog):
    caplog.set_level(logging.INFO)
    with EventStorage(19) as storage:
        storage.put_scalars(total_loss=1.5, loss_cls=1.0, loss_box_reg=0.5)
        storage.put_scalar("lr", 0.01, smoothing_hint=False)
        yield storage


def test_progress(storage, caplog):
    """Before the first times are there, and with everything there is on a CPU."""
    printer = ProgressPrinter(100, images_per_batch=16)
    printer.write()
    storage.put_scalars(time=0.5, data_time=0.03, phase_aligned=1)
    storage.put_scalars(**{"validation/loss_cls": 9.0})
    printer.write()
    losses = "loss 1.5 (cls 1, box_reg 0.5)"
    assert caplog.messages == [
        f"iter 19  {losses}  lr 0.01",
        f"iter 19  eta 0:00:40  {losses}  32 img/s  data 0.03 s  lr 0.01  aligned",
    ]
    storage.iter = 100
    printer.write()
    assert len(caplog.messages) == 2


def test_progress_fits_160_columns(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 78 * 2**30)
    with EventStorage(129_999) as storage:
        storage.put_scalars(total_loss=1.2345, loss_cls=0.012345, loss_box_reg=0.54321)
        storage.put_scalars(loss_centerness=0.54321, time=1.333, data_time=0.025)
        storage.put_scalars(lr=0.0033331, phase_aligned=0)
        ProgressPrinter(270_000, images_per_batch=16).write()
    (record,) = caplog.records
    assert "eta 2 days, 3:50  " in record.message and "78.0G  warmup" in record.message
    assert len(f"[11/26 15:05:50 {record.name}]: {record.message}") <= 160


def test_losses_that_do_not_fit_are_counted(caplog, monkeypatch):
    """Of Cascade Mask R-CNN on TOOD's proposals: the largest stay, in their order."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 78 * 2**30)
    names = [f"loss_{part}_stage{i}" for i in range(3) for part in ("cls", "box_reg")]
    names = ["loss_tood_cls", "loss_tood_box_reg", *names, "loss_mask"]
    with EventStorage(129_999) as storage:
        storage.put_scalars(**{name: 0.1234 + i / 100 for i, name in enumerate(names)})
        storage.put_scalars(total_loss=1.2345, time=1.333, data_time=0.025)
        storage.put_scalars(lr=0.0033331, phase_aligned=0)
        ProgressPrinter(270_000, images_per_batch=16).write()
    (record,) = caplog.records
    assert len(f"[11/26 15:05:50 {record.name}]: {record.message}") <= 160
    assert "loss 1.23 (box_reg_stage2 0.193, mask 0.203, 7 more)  12 img/s" in record.message


def test_progress_of_another_detector(caplog):
    """It may have no losses by name, and no phases."""
    caplog.set_level(logging.INFO)
    with EventStorage(0) as storage:
        storage.put_scalars(total_loss=2.0)
        ProgressPrinter(10, images_per_batch=2).write()
    assert caplog.messages == ["iter 0  loss 2"]


def test_assignment_statistics(storage, caplog):
    printer = AssignmentPrinter(period=2)
    printer.write()
    printer.write()
    assert not caplog.messages  # there are none yet
    for name, value in (
        ("pos_per_gt", 5.25),
        ("pos_per_gt_small", 2.0),
        ("pos_per_gt_large", 9.0),
        ("gt_without_pos_frac", 0.125),
        ("gt_without_pos_frac_small", 0.5),
    ):
        storage.put_scalar(f"assign/{name}", value, smoothing_hint=False)
    for _ in range(4):
        printer.write()
    expected = (
        "Positives per GT box: 5.2 (small 2.0, large 9.0); "
        "GT boxes without positives: 12.5% (small 50.0%)"
    )
    assert caplog.messages == [expected] * 2
