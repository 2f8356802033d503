"""The benchmark programs run and print what they promise; their times are not tested."""

import json
import re

import pytest

from tests.helpers import CONFIGS
from tood.data.synthetic import write_dataset
from tools.benchmark import __main__ as benchmark
from tools.benchmark import augmentation, coco_eval, dataset, loader
from tools.benchmark.cases import two_stage
from tools.benchmark.harness import Case, Settings, measure
from tools.reference import mmdet

QUICKSTART = str(CONFIGS / "quickstart" / "TOOD-R18-shapes.yaml")


def test_benchmark_without_reference(tmp_path, capsys, monkeypatch):
    """Without MMDetection most cases have no reference; this project's side is timed anyway."""
    monkeypatch.setattr(mmdet.importlib.util, "find_spec", lambda _: None)
    file = tmp_path / "times.json"
    benchmark.main(
        ["--cases", "postprocess", "--repeat", "1", "--device", "cpu", "--json", str(file)]
    )
    assert "| post-processing, 999 candidates" in capsys.readouterr().out
    cases = json.loads(file.read_text())["cases"]
    assert len(cases) == 2
    for case in cases:
        assert case["candidate"] > 0 and case["over roofline"] > 0 and "candidate MiB" in case
        assert "reference" not in case and "ratio" not in case


def test_both_sides_are_called_alternately():
    calls = []
    case = Case("a case", lambda: calls.append("candidate"), lambda: calls.append("reference"))
    settings = Settings(device="cpu", amp=None, batch=1, size=(64, 64), gt_counts=[])
    result = measure(case, settings, repeat=3)
    assert calls[:8] == ["candidate", "reference"] * 4  # one of each to warm up
    assert result["ratio"] == pytest.approx(result["candidate"] / result["reference"])
    assert {"candidate spread", "reference spread", "candidate MiB", "reference MiB"} <= set(result)


def test_coco_eval(capsys):
    coco_eval.main(["--images", "30"])
    difference = re.search(r"largest difference .* (\S+)$", capsys.readouterr().out.strip())
    assert float(difference.group(1)) < 1e-10


def test_loader(capsys, tmp_path):
    shapes = write_dataset(tmp_path, num_train=4, num_val=1, size=64)
    data = ["DATASETS.TRAIN_ANNOTATIONS", str(shapes / "train.json")]
    data += ["DATASETS.TRAIN_IMAGES", str(shapes / "images"), "SOLVER.IMS_PER_BATCH", "2"]
    loader.main(
        ["--config-file", QUICKSTART, "--workers", "0", "1", "--batches", "2", "--opts", *data]
    )
    rows = re.findall(r"^\|\s+(\d+) \|\s+([\d.]+) \|$", capsys.readouterr().out, re.M)
    assert [row[0] for row in rows] == ["0", "1"] and all(float(row[1]) > 0 for row in rows)


def test_loader_with_augmentation(capsys, tmp_path):
    shapes = write_dataset(tmp_path, num_train=4, num_val=1, size=64)
    data = ["DATASETS.TRAIN_ANNOTATIONS", str(shapes / "train.json")]
    data += ["DATASETS.TRAIN_IMAGES", str(shapes / "images"), "INPUT.LSJ.SIZE", "(64, 64)"]
    options = ["--batches", "1", "--rounds", "1", "--opts", *data]
    augmentation.main(["--config-file", "quickstart/TOOD-R18-shapes", *options])
    printed = capsys.readouterr().out
    rows = re.findall(r"^\| ([a-z -]+?) +\|\s+([\d.]+) \|\s+([\d.]+) \|$", printed, re.M)
    assert [row[0] for row in rows] == list(augmentation.AUGMENTATIONS)
    assert rows[0][2] == "1.00" and all(float(row[1]) > 0 for row in rows)


def test_reading_a_dataset(capsys):
    dataset.main(["--images", "40", "--boxes", "300", "--polygon-points", "4"])
    printed = capsys.readouterr().out
    assert "300 boxes in 40 images" in printed and "images: 40" in printed
    assert re.search(r"GB at the peak: \d", printed)


@pytest.mark.slow
def test_two_stage(capsys, monkeypatch):
    """Masks have something to do: the classifiers are scaled until there are detections."""
    monkeypatch.setattr(two_stage, "NAMES", ("TOOD-MaskRCNN-R50-1x",))
    found = []
    monkeypatch.setattr(
        two_stage,
        "Case",
        lambda name, *sides: found.append([side() for side in sides]) or Case(name, *sides),
    )
    arguments = ["--cases", "two-stage", "--repeat", "1", "--device", "cpu", "--size", "128x96"]
    benchmark.main(arguments)
    assert "TOOD-MaskRCNN-R50-1x, inference, 96x128" in capsys.readouterr().out
    detections, _ = found
    for (output,) in detections:
        assert len(output["instances"].pred_masks) > 10
