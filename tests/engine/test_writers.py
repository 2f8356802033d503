"""The lines that training logs."""

import logging

import pytest
from detectron2.utils.events import CommonMetricPrinter, EventStorage

from tood.engine.writers import AssignmentPrinter, PhaseMetricPrinter


@pytest.fixture
def storage(caplog):
    caplog.set_level(logging.INFO)
    with EventStorage(19) as storage:
        storage.put_scalars(total_loss=1.5, loss_cls=1.0, loss_box_reg=0.5)
        storage.put_scalar("lr", 0.01, smoothing_hint=False)
        yield storage


@pytest.mark.parametrize("aligned, phase", [(0, "warmup"), (1, "aligned")])
def test_phase_in_the_line_of_losses(storage, caplog, aligned, phase):
    storage.put_scalar("phase_aligned", aligned, smoothing_hint=False)
    CommonMetricPrinter(100).write()
    PhaseMetricPrinter(100).write()
    theirs, ours = caplog.messages
    assert "iter: 19  total_loss: 1.5  loss_cls: 1  loss_box_reg: 0.5" in ours
    assert ours == f"{theirs.rstrip()}  phase: {phase}"
    assert caplog.records[0].name == caplog.records[1].name == "detectron2.utils.events"


def test_line_of_losses_without_phases(storage, caplog):
    CommonMetricPrinter(100).write()
    PhaseMetricPrinter(100).write()
    theirs, ours = caplog.messages
    assert ours == theirs


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
