"""tools.experiments.alignment_table: what it runs, what it keeps, and the table."""

import json
import sys

import pytest

from tood.errors import TOODError
from tools.experiments import alignment_table

METRICS = {"AP": 50.0, "AP75": 40.0, "PCC": 0.5, "IoU-top10": 0.6}
METRICS |= {"correct": 10.0, "redundant": 5.0, "error": 7.0, "instances": 12.0}


@pytest.fixture
def commands(monkeypatch):
    """Replaces ``tood``: records its arguments, and lets the AP grow with the seed."""
    calls = []

    def run_command(arguments, log):
        calls.append(list(arguments))
        if arguments[0] == "analyze":
            seed = int(arguments[arguments.index("SEED") + 1])
            file = arguments[arguments.index("--json") + 1]
            with open(file, "w") as output:
                json.dump({**METRICS, "AP": 50.0 + seed}, output)

    monkeypatch.setattr(alignment_table, "run_command", run_command)
    return calls


def test_means_over_seeds_and_continuation(commands, tmp_path, capsys):
    arguments = ["--config-file", "a.yaml", "--output", str(tmp_path), "--seeds", "1", "3"]
    arguments += ["--rows", "T-head + TAL", "--opts", "MODEL.WEIGHTS", ""]
    alignment_table.main(arguments)
    assert [call[0] for call in commands] == ["train", "analyze", "train", "analyze"]
    assert "--resume" in commands[0] and "--resume" not in commands[1]
    cells = [cell.strip() for cell in capsys.readouterr().out.splitlines()[-1].split("|")[1:-1]]
    assert cells[:3] == ["T-head + TAL", "52.0 ± 1.4", "40.0 ± 0.0"]
    alignment_table.main(arguments)
    assert len(commands) == 4  # nothing runs again


def test_trained_weights_override_those_of_the_options(commands, tmp_path):
    alignment_table.train_and_analyze(
        "a.yaml", ["MODEL.WEIGHTS", ""], "Parallel head + ATSS", 1, tmp_path
    )
    analyze = commands[1]
    last = len(analyze) - 1 - analyze[::-1].index("MODEL.WEIGHTS")
    assert analyze[last + 1].endswith("model_final.pth")
    assert set(alignment_table.PARALLEL + alignment_table.ATSS) <= set(analyze)


def test_a_model_without_detections_has_no_ap():
    """detectron2's evaluator gives NaN then."""
    results = [{**METRICS, "AP": float("nan")}, METRICS]
    assert alignment_table.summarize(results)[:2] == ["nan ± nan", "40.0 ± 0.0"]


def test_failures_name_the_log(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(TOODError, match=r"tood train failed with exit code 1. See .*train.log"):
        alignment_table.run_command(["train"], tmp_path / "train.log")
