"""The benchmark programs run and print what they promise; their figures are not tested."""

import json
import re
import subprocess
import sys

from helpers import ROOT, load_program

from tood.data.shapes import make_dataset


def test_parts_beside_their_peers(tmp_path):
    """Without MMDetection there is no peer for most cases; ours is timed all the same."""
    command = [sys.executable, "tools/benchmark.py", "--cases", "postprocess", "--repeat", "1"]
    command += ["--device", "cpu", "--json", str(tmp_path / "times.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "| post-processing, 999 candidates" in done.stdout
    cases = json.loads((tmp_path / "times.json").read_text())["cases"]
    assert len(cases) == 2 and all(case["ours"] > 0 and "ours MiB" in case for case in cases)


def test_evaluation(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmark_evaluation.py", "--images", "30"])
    load_program("tools/benchmark_evaluation.py").main()
    difference = re.search(r"largest difference .* (\S+)$", capsys.readouterr().out.strip())
    assert float(difference.group(1)) < 1e-10


def test_loader(monkeypatch, capsys, tmp_path):
    shapes = make_dataset(tmp_path, num_train=4, num_val=1, size=64)
    config = str(ROOT / "configs" / "quickstart" / "TOOD-R18-shapes.yaml")
    arguments = ["--config-file", config, "--workers", "0", "1", "--batches", "2", "--opts"]
    arguments += ["DATASETS.TRAIN_JSON", str(shapes / "train.json"), "SOLVER.IMS_PER_BATCH", "2"]
    arguments += ["DATASETS.TRAIN_IMAGES", str(shapes / "images")]
    monkeypatch.setattr("sys.argv", ["benchmark_loader.py", *arguments])
    load_program("tools/benchmark_loader.py").main()
    rows = re.findall(r"^\|\s+(\d+) \|\s+([\d.]+) \|$", capsys.readouterr().out, re.M)
    assert [row[0] for row in rows] == ["0", "1"] and all(float(row[1]) > 0 for row in rows)
