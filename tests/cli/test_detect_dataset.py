"""tood detect-dataset."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.helpers import ROOT
from tood import Detector
from tood.cli import detect_dataset
from tood.config import load_config

pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")

# Of this clone, and of the detectron2 that the tests run with.
PYTHONPATH = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])


@pytest.fixture
def model(config, options, weights) -> list[str]:
    """The options that name the tiny model."""
    return ["--config-file", config, "--opts", *options, "MODEL.WEIGHTS", weights]


@pytest.fixture
def detector(config, options, weights):
    return Detector.from_config(load_config(config, [*options, "MODEL.WEIGHTS", weights]))


def assert_rows_are_predictions(frame, detector, **options):
    """Bit for bit: a batch of the run is a batch of predict."""
    found = list(detector.predict(list(frame.path), **options))
    assert len(found) == len(frame) and sum(map(len, found)) > 0
    for row, expected in zip(frame.itertuples(), found, strict=True):
        assert (row.height, row.width) == expected.image_size
        corners = np.stack([row.x1, row.y1, row.x2, row.y2], axis=1)
        np.testing.assert_array_equal(corners.reshape(-1, 4), expected.xyxy)
        np.testing.assert_array_equal(row.confidence, expected.confidence)
        np.testing.assert_array_equal(row.class_id, expected.class_id)
        assert list(row.class_name) == expected.class_names


def test_parquet(tood, model, shapes, tmp_path, detector, capsys):
    """Rows are what predict finds; a broken image is a row; the summary names the classes."""
    images = shutil.copytree(shapes / "images", tmp_path / "images")
    (images / "broken.png").write_bytes(b"no image")
    out = tmp_path / "out"
    more = ["--shard-size", 4, "--batch-size", 2, "--score-threshold", 0.2]
    assert tood("detect-dataset", images, "--output", out, *more, *model) == 0
    frame = pd.read_parquet(out / "shards")
    good = frame[frame.error.isna()]
    assert_rows_are_predictions(good, detector, batch_size=2, score_threshold=0.2)
    printed = capsys.readouterr().out
    total = good.class_id.map(len).sum()
    assert f"{total} objects in 7 images (" in printed
    assert "1 of 8 images could not be read" in printed
    assert json.loads((out / "summary.json").read_text())["detections"] == total


def test_coco_with_ids(tood, model, shapes, tmp_path, detector):
    """The ids of the COCO file, and of detect --json for the same images."""
    out, found = tmp_path / "out", tmp_path / "found.json"
    arguments = [shapes / "val.json", "--images", shapes / "images", "--format", "coco"]
    assert tood("detect-dataset", *arguments, "--output", out, *model) == 0
    listed = json.loads((shapes / "val.json").read_text())["images"]
    names = [str(shapes / "images" / image["file_name"]) for image in listed]
    images = json.loads((out / "images.json").read_text())
    assert [image["id"] for image in images] == [image["id"] for image in listed]
    tood("detect", *names, "--output", tmp_path / "drawn", "--json", found, *model)
    expected = json.loads(found.read_text())
    ids = {
        i["file_name"]: i["id"] for i in json.loads((tmp_path / "found_images.json").read_text())
    }
    own_ids = {ids[image["file_name"]]: image["id"] for image in images}
    for result in expected:
        result["image_id"] = own_ids[result["image_id"]]
    assert json.loads((out / "detections.json").read_text()) == expected


def test_nothing_readable_is_exit_code_1(tood, model, tmp_path, capsys):
    (tmp_path / "list.txt").write_text("gone.jpg\n")
    out = tmp_path / "out"
    assert tood("detect-dataset", tmp_path / "list.txt", "--output", out, *model) == 1
    assert pd.read_parquet(out / "shards").error[0].endswith("gone.jpg: it does not exist.")


def test_user_errors(tood, errors, model, shapes, tmp_path, monkeypatch):
    """Each is one line and exit code 2, and leaves no run behind that would refuse the next one."""
    out = tmp_path / "out"
    images = shapes / "images"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(detect_dataset, "run_processes", None)  # must not be reached
    for arguments, message in (
        ([images, "--classes", "dog"], "Unknown classes 'dog'"),
        ([tmp_path / "gone"], "There is no file or folder"),
        ([shapes / "val.json"], "--images is missing"),
        ([images, "--num-gpus", "2"], "--num-gpus 2 exceeds the 0 GPUs on this machine"),
        ([images, "--num-gpus", "0"], "--num-gpus must be at least 1"),
        ([images, "--format", "csv"], "invalid choice: 'csv'"),
        (["MODEL.DEVICE", "cpu"], "MODEL.DEVICE is a config key"),
        ([], "Name at least one SOURCE"),
    ):
        assert tood("detect-dataset", *arguments, "--output", out, *model) == 2, message
        (line,) = errors()
        assert message in line
    assert not (out / "manifest.json").exists()
    assert tood("detect-dataset", images, *model) == 2
    assert "--output" in errors()[0]
    (tmp_path / "file").touch()
    assert tood("detect-dataset", images, "--output", tmp_path / "file", *model) == 2
    assert "it is a file" in errors()[0]
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert tood("detect-dataset", images, "--output", out, *model) == 2
    assert 'pip install "tood-detectron2[dataset]"' in errors()[0]
    assert tood("detect-dataset", images, "--output", out, "--format", "coco", *model) == 0


def test_another_model_is_refused(tood, errors, config, options, weights, shapes, tmp_path):
    """By the content of the weights, not their place; and by what the config says of the input."""
    model = ["--config-file", config, "--opts", *options, "MODEL.WEIGHTS"]
    run = ["detect-dataset", shapes / "images", "--output", tmp_path / "out"]
    assert tood(*run, *model, weights) == 0
    moved = shutil.copy(weights, tmp_path / "moved.pth")
    assert tood(*run, *model, moved) == 0
    assert tood(*run, *model, weights, "INPUT.MIN_SIZE_TEST", "48") == 2
    assert "other settings: model (config: " in errors()[0]
    state = torch.load(moved, weights_only=True)
    state["head.tood_cls.bias"] += 1
    torch.save(state, moved)
    assert tood(*run, *model, moved) == 2
    assert "other settings: model (weights: " in errors()[0]


def test_launchers(tood, errors, model, shapes, tmp_path, monkeypatch):
    """One of several processes does all, if the others never come; and the names of the log."""
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29999")
    run = ["detect-dataset", shapes / "images", "--output", tmp_path / "out", *model]
    assert tood(*run) == 0
    assert len(pd.read_parquet(tmp_path / "out" / "shards")) == 7
    assert tood(*run[:2], "--num-gpus", "3", *run[2:]) == 2
    assert "the launcher has 2 processes on this machine" in errors()[0]


@pytest.mark.slow
@pytest.mark.parametrize("torchrun", [False, True])
def test_two_processes(torchrun, config, options, weights, shapes, tmp_path, detector):
    """By --num-gpus and by torchrun, on the CPU."""
    command = ["-m", "tood", "detect-dataset", "--config-file", config, shapes / "images"]
    command += ["--output", tmp_path / "out", "--shard-size", "1", "--device", "cpu"]
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*start, *command] if torchrun else [*command, "--num-gpus", "2"]
    command = [sys.executable, *command, "--opts", *options, "MODEL.WEIGHTS", weights]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": PYTHONPATH}
    done = subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert_rows_are_predictions(pd.read_parquet(tmp_path / "out" / "shards"), detector)
