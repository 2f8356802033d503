"""tood quickstart: its parts, and its end. The whole of it runs in CI."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from tests.helpers import ROOT
from tood.cli import quickstart
from tood.config import load_config
from tood.errors import TOODError
from tood_runtime.cli import parse


def test_metrics_and_plot(tmp_path):
    rows = [
        {"iteration": i, "loss_cls": 1.0, "loss_box_reg": 2.0, "bbox/AP": float(i)}
        for i in (19, 39)
    ]
    text = "\n".join(json.dumps(row) for row in rows) + '\n{"iteration": 59, "loss'
    (tmp_path / "metrics.json").write_text(text)
    assert quickstart.read_metrics(tmp_path / "metrics.json") == rows
    assert quickstart.read_metrics(tmp_path / "missing.json") == []
    quickstart.plot(rows, 30, tmp_path / "plot.png")
    assert Image.open(tmp_path / "plot.png").size == (960, 720)


def test_config_is_found_by_its_name():
    """Without a checkout, too: not by its path."""
    cfg = load_config(quickstart.CONFIG, quickstart.SHORT)
    assert cfg.SOLVER.MAX_ITER == 60 and cfg.MODEL.RESNETS.DEPTH == 18


def test_steps_are_commands_that_a_user_types(tood, tmp_path, monkeypatch, capsys):
    """Everything but the processes themselves; each line is read by the real parser."""
    monkeypatch.chdir(tmp_path)
    lines = []

    def run(arguments, log, while_running=None):
        command, args = parse(list(arguments))
        lines.append((command.name, args))
        rows = [{"iteration": i, "loss_cls": 1, "loss_box_reg": 1, "bbox/AP": 7.0} for i in (1, 2)]
        text = "\n".join(map(json.dumps, rows))
        (log.parent / "metrics.json").write_text(text)

    monkeypatch.setattr(quickstart, "run", run)
    assert tood("quickstart", "--short") == 0
    output = tmp_path / "output" / "quickstart"
    (train, train_args), (detect, detect_args) = lines
    assert (train, train_args.model) == ("train", "quickstart/TOOD-R18-shapes")
    assert load_config(train_args.model, train_args.opts).OUTPUT_DIR == str(output)
    assert (detect, detect_args.model) == ("detect", str(output))
    assert detect_args.output == str(output / "detections") and len(detect_args.inputs) == 8
    assert (output / "training.png").is_file()
    out = capsys.readouterr().out
    assert "AP = 7.0" in out and "tood detect output/quickstart" in out.replace(sys.executable, "")
    # What it recommends can be typed, too.
    advice = out.split("Try next:")[1].replace("\\\n", " ").splitlines()
    commands = [shlex.split(line) for line in advice if line.strip() and "#" not in line]
    assert len(commands) == 3
    for words in commands:
        parse(words[words.index("tood") + 1 :])


def stand_in_for_python(folder, script: str) -> str:
    """A program that is called instead of Python."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_failing_command_names_its_log(tmp_path, monkeypatch, capsys):
    python = stand_in_for_python(tmp_path, "echo cause of it; exit 3")
    monkeypatch.setattr(quickstart.sys, "executable", python)
    with pytest.raises(TOODError, match=r"This command failed: .*python -m tood train.*log.txt"):
        quickstart.run(["train"], tmp_path / "log.txt")
    assert capsys.readouterr().err == "cause of it\n"


def test_training_ends_with_the_quickstart(tmp_path):
    """A process that stands for the training says who it is; then its parent is stopped."""
    code = (
        "import sys; from pathlib import Path; from tood.cli import quickstart\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "quickstart.sys.executable = str(folder / 'python')\n"
        "with quickstart.exit_on_signals():\n"
        "    quickstart.run(['train'], folder / 'log.txt')\n"
    )
    stand_in_for_python(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 60")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        assert parent.poll() is None and time.monotonic() < deadline, parent.stderr.read()
        time.sleep(0.1)
    child = int((tmp_path / "pid").read_text())
    parent.terminate()
    parent.wait(timeout=60)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert parent.returncode == 128 + signal.SIGTERM
