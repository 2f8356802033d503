"""Reading metrics.json: resumed runs, lines that are cut off, and what is best."""

import json

import numpy as np
import pytest

from tood.errors import DataError
from tood.report.metrics import read_metrics


def read(folder, *lines):
    path = folder / "metrics.json"
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
    return read_metrics(path)


def test_resumed_runs(tmp_path):
    """The last value at an iteration counts; cut-off and foreign lines are skipped."""
    metrics = read(
        tmp_path,
        {"iteration": 19, "a": 1.0, "bbox/AP": 3.0},
        {"iteration": 39, "a": 2.0},
        '{"iteration": 59, "a": 9',
        "",
        "[1]",
        '{"a": 4}',
        {"iteration": 39, "a": 3.0, "text": "x", "flag": True},
        {"iteration": 20, "a": float("nan")},
    )
    iterations, values = metrics.curve("a")
    assert iterations.tolist() == [19, 20, 39]
    assert values.tolist()[::2] == [1, 3] and np.isnan(values[1])
    assert set(metrics.scalars) == {"a", "bbox/AP"} and metrics.last_iteration == 39
    assert len(metrics.curve("none")[0]) == 0


def test_phases(tmp_path):
    phases = [{"iteration": 20 * i, "phase_aligned": float(i > 1)} for i in range(4)]
    metrics = read(tmp_path, *phases)
    assert (metrics.phase_switch, metrics.phase) == ((21, 40), "aligned")
    assert read(tmp_path, *phases[:2]).phase == "warmup"
    assert read(tmp_path, *phases[:2]).phase_switch is None
    assert read(tmp_path, *phases[2:]).phase_switch is None  # aligned from the first
    assert read(tmp_path, {"iteration": 1, "a": 1}).phase == ""


def test_best(tmp_path):
    losses = ["validation/total_loss", "raw_validation/total_loss"]
    metrics = read(
        tmp_path,
        *({"iteration": i, "bbox/AP": x} for i, x in enumerate([float("nan"), 3, 5, 5, 4])),
        *({"iteration": i, name: 9 - i} for i in range(3) for name in losses),
        {"iteration": 9, "b/bbox/AP": 1.0, "raw_bbox/AP": 2.0, "bbox/AP-nan": float("nan")},
    )
    assert metrics.best("bbox/AP") == (2, 5.0)
    assert [metrics.best(name) for name in losses] == [(2, 7.0)] * 2
    assert metrics.best("bbox/AP-nan") is None and metrics.best("none") is None
    assert metrics.names("bbox/AP") == ["bbox/AP", "b/bbox/AP", "raw_bbox/AP"]


def test_other_files(tmp_path):
    with pytest.raises(DataError, match="no line of it"):
        read(tmp_path, "{}", "x")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_metrics(tmp_path / "none.json")
    assert not read(tmp_path)
