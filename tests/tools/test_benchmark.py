"""The benchmark programs run and print what they promise; their figures are not tested."""

import json
import re
import subprocess
import sys

import pytest

from tests.helpers import ROOT, load_program
from tood.data.synthetic import write_dataset
from tood.modeling import meta_arch


def test_benchmark_without_reference(tmp_path):
    """Without MMDetection there is no peer for most cases; ours is timed all the same."""
    command = [sys.executable, "-m", "tools.benchmark", "--cases", "postprocess", "--repeat", "1"]
    command += ["--device", "cpu", "--json", str(tmp_path / "times.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "| post-processing, 999 candidates" in done.stdout
    cases = json.loads((tmp_path / "times.json").read_text())["cases"]
    assert len(cases) == 2 and all(case["ours"] > 0 and "ours MiB" in case for case in cases)


def test_evaluation(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmark_evaluation.py", "--images", "30"])
    load_program("tools/benchmark/coco_eval.py").main()
    difference = re.search(r"largest difference .* (\S+)$", capsys.readouterr().out.strip())
    assert float(difference.group(1)) < 1e-10


def test_loader(monkeypatch, capsys, tmp_path):
    shapes = write_dataset(tmp_path, num_train=4, num_val=1, size=64)
    config = str(ROOT / "configs" / "quickstart" / "TOOD-R18-shapes.yaml")
    arguments = ["--config-file", config, "--workers", "0", "1", "--batches", "2", "--opts"]
    arguments += [
        "DATASETS.TRAIN_ANNOTATIONS",
        str(shapes / "train.json"),
        "SOLVER.IMS_PER_BATCH",
        "2",
    ]
    arguments += ["DATASETS.TRAIN_IMAGES", str(shapes / "images")]
    monkeypatch.setattr("sys.argv", ["benchmark_loader.py", *arguments])
    load_program("tools/benchmark/loader.py").main()
    rows = re.findall(r"^\|\s+(\d+) \|\s+([\d.]+) \|$", capsys.readouterr().out, re.M)
    assert [row[0] for row in rows] == ["0", "1"] and all(float(row[1]) > 0 for row in rows)


@pytest.mark.parametrize("phase", ["warmup", "aligned"])
def test_training_reads_nothing_back_from_a_gpu(monkeypatch, capsys, phase):
    """What is left on a CPU are the checks of classes that a GPU does without."""
    rows, reads = run_profile(monkeypatch, capsys, "--train", "--phase", phase)
    assert list(rows) == [
        "preprocessing", "backbone", "FPN", "head", "assignment", "losses", "logging", "backward",
        "optimizer", "step",
    ]  # fmt: skip
    checks = {"validate_ground_truth", "preprocess_image", "_ground_truth"}
    assert {function for _, function in reads} <= checks, reads


def test_parts_of_inference(monkeypatch, capsys):
    """The candidates of each level and image, those with an area, and what is left of them."""
    rows, reads = run_profile(monkeypatch, capsys, "--batch", "2")
    assert list(rows) == ["preprocessing", "backbone", "FPN", "head", "post-processing", "step"]
    assert reads.pop(("nonzero", "select_candidates")) == 5 * 2
    assert set(reads) <= {
        ("index", "postprocess_single_image"), ("torchvision::nms", "postprocess_single_image"),
        ("index", "forward_inference"), ("_local_scalar_dense", "forward_inference"),
        ("_local_scalar_dense", "preprocess_image"),
    }  # fmt: skip


def run_profile(monkeypatch, capsys, *options):
    """tools/profile_parts.py on a small model: its milliseconds, and its reads by function."""
    config = str(ROOT / "configs" / "quickstart" / "TOOD-R18-shapes.yaml")
    arguments = ["--config-file", config, "--size", "96x64", "--repeat", "1", "--device", "cpu"]
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    monkeypatch.setattr(
        meta_arch, "compute_targets", meta_arch.compute_targets
    )  # undone at the end
    monkeypatch.setattr("sys.argv", ["profile_parts.py", *arguments, *options])
    load_program("tools/benchmark/profile_step.py").main()
    parts, reads = capsys.readouterr().out.split("\n\n")
    rows = dict(re.findall(r"^\| ([a-zA-Z-]+)\s+\|\s+([\d.]+) \|", parts, re.M))
    assert all(float(value) >= 0 for value in rows.values())
    found = re.findall(r"^\|\s+(\d+) \| (\S+)\s+\| \S+ (\w+)\s*\|$", reads, re.M)
    return rows, {(operator, function): int(count) for count, operator, function in found}
