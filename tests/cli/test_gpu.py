"""Programs on a GPU; skipped without one."""

import json
import os
import subprocess
import sys

import pytest
import torch

from tests.engine.helpers import read_metrics
from tests.helpers import ROOT
from tood import Detector

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]


@pytest.fixture(scope="session")
def options(options):
    """The quickstart's config names the CPU."""
    return [*options, "MODEL.DEVICE", "cuda"]


@pytest.mark.parametrize("amp", [False, True])
def test_train_resume_evaluate(tood, config, options, tmp_path, capsys, amp):
    """The first step after a resume has the loss that it has without.

    Later ones need not: on a GPU sums have no fixed order, and an untrained model amplifies that.
    """
    line = ["train", config, *options, "SOLVER.AMP.ENABLED", amp, "SEED", 1, "--num-gpus", 1]
    line += ["SOLVER.CHECKPOINT_PERIOD", 2, "TEST.EVAL_PERIOD", 0]
    line += ["SOLVER.EMA.ENABLED", amp]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert tood(*line, "SOLVER.MAX_ITER", 3, "--output", whole) == 0
    assert tood(*line, "SOLVER.MAX_ITER", 2, "--output", stopped) == 0
    assert tood("train", stopped, "SOLVER.MAX_ITER", 3, "--resume") == 0
    expected, found = (
        [row["total_loss"] for row in read_metrics(folder) if "total_loss" in row][-1]
        for folder in (whole, stopped)
    )
    assert found == pytest.approx(expected, rel=0.02)
    weights = torch.load(stopped / "model_final.pth", weights_only=True)["model"]
    assert all(value.isfinite().all() for value in weights.values())
    capsys.readouterr()
    assert tood("eval", whole, "--output", tmp_path / "eval") == 0
    assert "copypaste: AP,AP50" in capsys.readouterr().out


def test_more_gpus_than_there_are(tood, errors, config, options, tmp_path):
    count = torch.cuda.device_count() + 1
    arguments = ["--num-gpus", count, "--output", tmp_path / "run", *options]
    assert tood("train", config, *arguments) == 2
    assert str(count) in errors()[0]


def test_launched_by_torchrun(config, options, tmp_path):
    """One process with NCCL."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "1"]
    command += ["--standalone", "train_net.py", "--config-file", config]
    done = subprocess.run(
        [*command, "OUTPUT_DIR", str(tmp_path / "run"), *options],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "run" / "model_final.pth").is_file()


def test_detect(tood, run_folder, shapes, tmp_path):
    output = tmp_path / "out"
    more = ["--half", "--score-threshold", 0.1, "--json", tmp_path / "found.json"]
    assert tood("detect", run_folder, shapes / "images", "--output", output, *more) == 0
    assert len(list(output.iterdir())) == 7
    assert json.loads((tmp_path / "found.json").read_text())


def test_detect_dataset(tood, run_folder, shapes, tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    out = tmp_path / "out"
    more = ["--batch-size", 2, "--score-threshold", 0.1]
    line = ["detect-dataset", shapes / "images", "--output", out, "--model", run_folder]
    assert tood(*line, *more) == 0
    frame = pandas.read_parquet(out / "shards")
    detector = Detector.from_pretrained(run_folder)
    assert detector.cfg.MODEL.DEVICE == "cuda"
    found = detector.predict(list(frame.path), batch_size=2, score_threshold=0.1)
    for row, expected in zip(frame.itertuples(), found, strict=True):
        assert len(row.confidence) == len(expected)
        assert row.confidence == pytest.approx(expected.confidence, abs=1e-3)


def test_export(tood, run_folder, tmp_path):
    """Traced on the CPU, whatever the device of the run."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    assert tood("export", run_folder, "--output", tmp_path / "model.onnx") == 0


def test_torchscript_on_the_gpu(tood, run_folder, shapes, tmp_path):
    """Detections differ by what TF32 rounds."""
    path, image = tmp_path / "model.torchscript", min((shapes / "images").glob("*.png"))
    assert tood("export", run_folder, "--output", path) == 0
    expected = Detector.from_pretrained(path)(image, score_threshold=0.1)
    found = Detector.from_pretrained(path, device="cuda")(image, score_threshold=0.1)
    assert len(found) == len(expected) > 0
    assert found.confidence == pytest.approx(expected.confidence, abs=2e-2)
