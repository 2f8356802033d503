"""tood train, tood eval and train_net.py."""

import json
import os
import runpy
import signal
import sys
from argparse import Namespace

import pytest
import torch

from tests.helpers import ROOT
from tood.checkpoint import CheckpointInfo
from tood.cli import common, train
from tood.config import load_config
from tood.data import class_info
from tood.data.synthetic import CLASSES
from tood.engine import Trainer
from tood.engine.run_folder import RunFolder
from tood.engine.signals import TrainingInterrupted
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
    assert iterations(run) == [2]  # as an uninterrupted run of 3 iterations: a line at its end
    capsys.readouterr()
    assert tood("eval", run, "--output", tmp_path / "eval") == 0
    assert "copypaste: AP,AP50" in capsys.readouterr().out
    assert (tmp_path / "eval" / "log.txt").is_file()


def test_folder_of_a_run_holds_its_epochs(tood, config, options, tmp_path):
    """Not the iterations that they were for 4 images and batches of 2."""
    run = tmp_path / "run"
    assert tood("train", config, "--output", run, *options, "SOLVER.EPOCHS", 1) == 0
    assert iterations(run) == [1]
    saved = load_config(str(run / "config.yaml"), [])
    assert (saved.SOLVER.EPOCHS, saved.SOLVER.MAX_ITER, saved.SOLVER.STEPS) == (1, 2, ())
    assert tood("train", run, "--resume", "SOLVER.EPOCHS", 2) == 0
    assert iterations(run) == [3]
    assert "SOLVER.EPOCHS 2 replaces MAX_ITER and STEPS: 4 iter" in (run / "log.txt").read_text()


def test_one_file_is_a_model_to_train_and_evaluate(
    tood, errors, options, run_folder, tmp_path, capsys
):
    """So is not one that names a module to import, or weights without a training to resume."""
    file, config = run_folder / "model_final.pth", (run_folder / "config.yaml").read_text()
    weights = torch.load(file, weights_only=True)
    info = CheckpointInfo(config, class_names=list(CLASSES))
    torch.save({"model": weights, "tood": info.to_dict()}, file)
    assert tood("eval", file) == 0
    assert "copypaste: AP,AP50" in capsys.readouterr().out
    assert tood("train", file, "--output", tmp_path / "more", "SOLVER.MAX_ITER", 1) == 0
    assert f"Loading weights from {file}" in (tmp_path / "more" / "log.txt").read_text()

    (run_folder / "last_checkpoint").write_text(file.name)
    assert tood("train", run_folder, "--resume") == 2
    assert "holds weights alone, without the iteration" in errors()[0]
    info = CheckpointInfo(f"{config}\nMODEL: {{TOOD: {{CUSTOM_IMPORTS: [a.py]}}}}")
    torch.save({"model": weights, "tood": info.to_dict()}, file)
    assert tood("eval", file) == 2


def test_classes_in_another_order(tood, errors, config, options, shapes, tmp_path, capsys):
    """A resume is refused; in fine-tuning, their weights are matched by name."""
    run, other = tmp_path / "run", {}
    assert tood("train", config, "--output", run, *options, "SOLVER.MAX_ITER", 1) == 0
    for split in ("train", "val"):
        content = json.loads((shapes / f"{split}.json").read_text())
        names = [category["name"] for category in content["categories"]]
        for category, name in zip(content["categories"], [*names[1:], names[0]], strict=True):
            category["name"] = name
        other[split] = tmp_path / f"{split}.json"
        other[split].write_text(json.dumps(content))
    line = ["train", config, *options, "DATASETS.TRAIN_ANNOTATIONS", other["train"]]
    line += ["DATASETS.TEST_ANNOTATIONS", other["val"]]
    message = "have the same classes in another order: class 0 is 'circle' for the model and"
    assert tood(*line, "OUTPUT_DIR", run, "--resume") == 2
    assert message in errors()[0]
    weights = ["MODEL.WEIGHTS", run / "model_final.pth", "OUTPUT_DIR", tmp_path / "new"]
    assert tood(*line, *weights, "SOLVER.MAX_ITER", 1) == 0
    output = capsys.readouterr().out
    assert "Matched by name, 5 of 5 classes start from its classification weights" in output
    assert message not in output


def test_values_are_checked_before_data_is_read(tood, errors, config, options, tmp_path):
    line = ["train", config, "--output", tmp_path / "run", *options, "SOLVER.MAX_ITER", 0]
    assert tood(*line, "DATASETS.TRAIN_ANNOTATIONS", "/nowhere.json") == 2
    (error,) = errors()
    assert "SOLVER.MAX_ITER" in error


def test_what_data_reading_says_is_in_the_log(tood, config, options, shapes, tmp_path):
    content = json.loads((shapes / "train.json").read_text())
    del content["annotations"][0]["area"]
    (tmp_path / "train.json").write_text(json.dumps(content))
    line = ["train", config, "--output", str(tmp_path), *options, "DATASETS.TRAIN_ANNOTATIONS"]
    args = parse([*line, str(tmp_path / "train.json")])[1]
    train.setup_run(train.load_run_config(args), args)
    log = (tmp_path / "log.txt").read_text()
    assert str(tmp_path / "train.json") in log.partition("Environment info")[0]


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
    (tmp_path / "run" / "model_final.pth").write_bytes(b"")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)

    def output_dir(*line: str) -> str:
        return train.load_run_config(parse(list(line))[1]).OUTPUT_DIR

    assert output_dir("train", "../run") == "run"  # a new run
    assert output_dir("train", "../run", "--resume") == "../run"
    assert output_dir("train", "../run", "SOLVER.MAX_ITER", "3", "--resume") == "../run"
    assert output_dir("eval", "../run") == "../run"
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert output_dir("train", "../run") == "../run"


def test_setup_run_freezes_a_config_with_class_names(config, options, tmp_path):
    line = ["train", config, "--output", str(tmp_path), *options, "SOLVER.BASE_LR", "1e-3"]
    args = parse(line)[1]
    cfg = train.load_run_config(args)
    train.setup_run(cfg, args)
    assert cfg.is_frozen() and cfg.OUTPUT_DIR == str(tmp_path) and cfg.SOLVER.BASE_LR == 1e-3
    assert cfg.MODEL.TOOD.CLASS_NAMES == list(CLASSES) and len(cfg.DATASETS.TRAIN) == 1
    assert (tmp_path / "config.yaml").is_file() and (tmp_path / "log.txt").is_file()


def test_a_second_training_into_a_folder_in_use(tood, errors, config, options, tmp_path):
    """It is refused before it writes anything."""
    with RunFolder.acquire(tmp_path):
        assert tood("train", config, "--output", tmp_path, *options) == 2
        (error,) = errors()
        assert f"{tmp_path} is in use by another training (process {os.getpid()} on" in error
        assert [path.name for path in tmp_path.iterdir()] == ["run.lock"]


def test_a_failed_start_leaves_the_earlier_run_as_it_was(
    tood, errors, config, options, weights, tmp_path
):
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    (tmp_path / "config.yaml").write_text("of the earlier run")
    line = ["train", config, "--output", tmp_path, *options]
    assert tood(*line, "DATASETS.TRAIN_ANNOTATIONS", "/nowhere.json") == 2
    assert tood(*line, "MODEL.WEIGHTS", "/nowhere.pth") == 2
    assert len(errors()) == 2
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000001.pth"
    assert (tmp_path / "config.yaml").read_text() == "of the earlier run"
    assert not (tmp_path / "run.json").exists() and not (tmp_path / "run.lock").exists()


def test_evaluation_leaves_the_training_as_it_is(
    tood, config, options, run_folder, weights, capsys
):
    (run_folder / "log.txt").write_text("of the training")
    before = {path.name: path.read_bytes() for path in run_folder.iterdir()}
    assert tood("eval", run_folder) == 0
    line = ["--eval-only", "MODEL.WEIGHTS", weights, "OUTPUT_DIR", run_folder]
    assert tood("train", "--config-file", config, *options, *line) == 0
    after = {path.name: path.read_bytes() for path in run_folder.iterdir() if path.is_file()}
    assert after == before
    assert (run_folder / "evaluation" / "config.yaml").is_file()
    assert (run_folder / "evaluation" / "log.txt").is_file()
    assert capsys.readouterr().out.count("copypaste: AP,AP50") == 2


def test_a_restart_by_the_launcher_resumes(config, options, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    seen = []
    monkeypatch.setattr(Trainer, "resume_or_load", lambda _, resume: seen.append(resume))
    monkeypatch.setattr(Trainer, "train", lambda _: {})
    for line in ([], ["--resume"]):
        train.run(parse(["train", config, "--output", str(tmp_path), *options, *line])[1])
    monkeypatch.delenv("SLURM_RESTART_COUNT")
    train.run(parse(["train", config, "--output", str(tmp_path), *options])[1])
    assert seen == [True, True, False]


def test_contradiction_of_the_launcher(tood, errors, config, monkeypatch):
    for name, value in {"RANK": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert tood("train", config) == 2
    (error,) = errors()
    assert "LOCAL_WORLD_SIZE is not" in error


def test_requeue_needs_slurm(tood, errors, config, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert tood("train", config, "--requeue") == 2
    assert errors() == ["error: --requeue is for jobs of SLURM, but SLURM_JOB_ID is not set."]


@pytest.mark.parametrize(
    "number, asked, accepted, code",
    [
        (signal.SIGUSR1, True, True, 0),
        (signal.SIGUSR1, True, False, 138),
        (signal.SIGUSR1, False, True, 138),
        (signal.SIGTERM, True, True, 143),
    ],
)
def test_exit_code_of_an_interrupted_training(monkeypatch, number, asked, accepted, code):
    calls = []
    monkeypatch.setattr(train, "requeue_job", lambda: calls.append(1) or accepted)
    with pytest.raises(SystemExit) as end, train.exit_when_interrupted(Namespace(requeue=asked)):
        raise TrainingInterrupted(number)
    assert end.value.code == code
    assert len(calls) == (number == signal.SIGUSR1 and asked)


@pytest.mark.parametrize(
    "more, message",
    [
        (["--eval-only"], "MODEL.WEIGHTS"),
        (["MODEL.WEIGHTS", "/nowhere.pth"], "/nowhere.pth"),
        (["MODEL.TOOD.NUM_CLASSES", "7"], "MODEL.TOOD.NUM_CLASSES 5"),
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


def test_trained_weights_are_for_evaluation_only(monkeypatch, tmp_path):
    """Training starts from the config's weights, also when MODEL has trained ones."""
    seen = {}
    for name in ("train", "eval"):
        args = parse([name, "TOOD-R50-1x", "SOLVER.MAX_ITER", "3"])[1]
        seen[name] = common.load_model_config(args, trained=args.eval_only).MODEL.WEIGHTS
        assert args.config_file.endswith("TOOD-R50-1x.yaml")
    assert "ImageNetPretrained" in seen["train"]
    assert seen["eval"].startswith("https://") and seen["eval"].endswith(".pth")


def test_unexpected_results(tood, errors, config, options, run_folder, tmp_path):
    """The exit code tells, and the files are complete: those of a training, and an evaluation's."""
    expected = ["TEST.EXPECTED_RESULTS", '[["bbox", "AP", 99.0, 0.5]]', "TEST.REPORT", True]
    for line in (
        ["train", config, *options, *expected, "--output", tmp_path / "train"],
        ["eval", run_folder, *expected, "--output", tmp_path / "eval"],
    ):
        assert tood(*line) == 2
        (error,) = errors()
        assert "bbox/AP is " in error and ", expected 99 ± 0.5" in error
        assert (line[-1] / "report.html").is_file()
    assert (tmp_path / "train" / "model_final.pth").is_file()
    expected[1] = '[["bbox", "AP", 50.0, 50.0]]'
    assert tood("eval", run_folder, *expected, "--output", tmp_path / "met") == 0
