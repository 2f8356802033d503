"""tood train, tood eval and train_net.py."""

import json
import runpy
import sys

import pytest
import torch

from tests.helpers import ROOT
from tood.cli import common, train
from tood.config import load_config
from tood.data import class_info
from tood.data.synthetic import CLASSES
from tood.errors import ConfigError
from tood_runtime.cli import parse


def iterations(folder) -> list[int]:
    rows = [json.loads(x) for x in (folder / "metrics.json").read_text().splitlines()]
    return [row["iteration"] for row in rows if "total_loss" in row]


def test_train_resume_evaluate(tood, config, options, tmp_path, capsys):
    run = tmp_path / "run"
    assert tood("train", config, "--output", run, *options) == 0
    assert (run / "model_final.pth").is_file()
    # The saved config knows the classes, so the dataset is not needed any more.
    saved = load_config(str(run / "config.yaml"), [])
    saved.DATASETS.TEST, saved.DATASETS.TEST_ANNOTATIONS = (), ""
    assert class_info(saved) == (list(CLASSES), [1, 2, 3, 4, 5])

    # From here on the run's folder is enough.
    assert tood("train", run, "SOLVER.MAX_ITER", 3, "--resume") == 0
    assert iterations(run) == [1, 2]
    capsys.readouterr()
    assert tood("eval", run, "--output", tmp_path / "eval") == 0
    assert "copypaste: AP,AP50" in capsys.readouterr().out
    assert (tmp_path / "eval" / "log.txt").is_file()


def test_detectron2s_evaluation_command(config, options, weights, tmp_path, capsys, monkeypatch):
    """``train_net.py --config-file F --eval-only MODEL.WEIGHTS X``."""
    line = ["--config-file", config, "--eval-only", *options, "MODEL.WEIGHTS", weights]
    line += ["OUTPUT_DIR", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["train_net.py", *line])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "train_net.py"), run_name="__main__")
    assert end.value.code == 0
    assert "copypaste: AP,AP50" in capsys.readouterr().out


def test_resume_continues_in_the_folder_that_was_named(config, options, tmp_path, monkeypatch):
    """config.yaml may name OUTPUT_DIR relative to another working directory."""
    cfg = load_config(config, [*options, "OUTPUT_DIR", "run"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(cfg.dump())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert train.setup_run(parse(["train", "../run"])[1]).OUTPUT_DIR == "run"  # a new run
    cfg = train.setup_run(parse(["train", "../run", "--resume"])[1])
    assert cfg.OUTPUT_DIR == "../run"


def test_setup_run_gives_a_frozen_config_with_class_names(config, options, tmp_path):
    line = ["train", config, "--output", str(tmp_path), *options, "SOLVER.BASE_LR", "1e-3"]
    args = parse(line)[1]
    cfg = train.setup_run(args)
    assert cfg.is_frozen() and cfg.OUTPUT_DIR == str(tmp_path) and cfg.SOLVER.BASE_LR == 1e-3
    assert cfg.MODEL.TOOD.CLASS_NAMES == list(CLASSES) and len(cfg.DATASETS.TRAIN) == 1
    assert (tmp_path / "config.yaml").is_file() and (tmp_path / "log.txt").is_file()


@pytest.mark.parametrize(
    "more, message",
    [
        (["--eval-only"], "MODEL.WEIGHTS"),
        (["MODEL.WEIGHTS", "/nowhere.pth"], "/nowhere.pth"),
        (["MODEL.TOOD.NUM_CLASSES", "80"], "MODEL.TOOD.NUM_CLASSES 5"),
        (["DATASETS.TRAIN_ANNOTATIONS", "/nowhere.json"], "/nowhere.json"),
        (["MODEL.TOOD.NUM_CLASES", "5"], "NUM_CLASES"),
        (["DATASETS.TRAIN_ANNOTATIONS", ""], "DATASETS.TRAIN_IMAGES"),
        (["--num-gpus", "64"], "--num-gpus 64 exceeds the"),
        (["--machine-rank", "1"], "--machine-rank 1 must be below --num-machines 1"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(
    tood, errors, config, options, tmp_path, more, message
):
    line = ["--config-file", config, *options, "OUTPUT_DIR", tmp_path, *more]
    assert tood("train", *line) == 2
    (error,) = errors()
    assert message in error


@pytest.mark.parametrize("option", ["--config-file", None])
def test_unknown_config(tood, errors, option):
    assert tood("train", *filter(None, [option, "/nowhere.yaml"])) == 2
    (error,) = errors()
    assert "/nowhere.yaml" in error


@pytest.mark.parametrize(
    "available, message",
    [
        (0, "--num-gpus 8 exceeds the 0 GPUs on this machine. Use --num-gpus 1"),
        (1, "--num-gpus 8 exceeds the 1 GPU on this machine. Lower --num-gpus."),
        (4, "--num-gpus 8 exceeds the 4 GPUs on this machine. Lower --num-gpus."),
    ],
)
def test_more_gpus_than_there_are(monkeypatch, available, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: available)
    with pytest.raises(ConfigError) as error:
        train.validate_launch(parse(["train", "M", "--num-gpus", "8"])[1])
    assert str(error.value).startswith(message)
    train.validate_launch(parse(["train", "M"])[1])


def test_trained_weights_are_for_evaluation_only(monkeypatch, tmp_path):
    """Training starts from the config's weights, also when MODEL has trained ones."""
    seen = {}
    for name in ("train", "eval"):
        args = parse([name, "TOOD-R50-1x", "SOLVER.MAX_ITER", "3"])[1]
        seen[name] = common.load_model_config(args, trained=args.eval_only).MODEL.WEIGHTS
        assert args.config_file.endswith("TOOD-R50-1x.yaml")
    assert "ImageNetPretrained" in seen["train"]
    assert seen["eval"].startswith("https://") and seen["eval"].endswith(".pth")
