"""The entry point: fast, without torch, and the same program behind every name."""

import importlib
import json
import os
import resource
import runpy
import shlex
import subprocess
import sys

import pytest

from tests.helpers import ROOT
from tood_runtime.cli import COMMANDS, main


@pytest.mark.parametrize("name", [n for n in COMMANDS if n != "install-detectron2"])
def test_every_command_has_a_body(name):
    assert callable(importlib.import_module(COMMANDS[name].body).main)


@pytest.mark.parametrize("script, command", [("train_net.py", "train"), ("demo/demo.py", "detect")])
def test_scripts_have_the_help_of_their_command(script, command, monkeypatch, capsys):
    def help_of(run, *arguments):
        with pytest.raises(SystemExit) as end:
            run(*arguments)
        assert end.value.code == 0
        return " ".join(capsys.readouterr().out.split())

    monkeypatch.setattr(sys, "argv", [script, "--help"])
    text = help_of(lambda: runpy.run_path(str(ROOT / script), run_name="__main__"))
    name = script.split("/")[-1]
    assert text.startswith(f"usage: {name} [-h] [--config-file FILE]")
    assert text.replace(name, f"tood {command}") == help_of(main, [command, "--help"])


# ---- Without torch ------------------------------------------------------------------------------

# Python imports it at its start, before anything else; what is blocked is then not installed.
BLOCK = """
import sys

class Block:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in {blocked}:
            return self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Block, sys.meta_path)
"""
ENTRY = "import sys; from tood_runtime.cli import main; sys.exit(main())"


def run_blocked(folder, blocked: set[str], *arguments: str) -> subprocess.CompletedProcess:
    """Run ``tood`` in an interpreter in which some packages are missing."""
    (folder / "sitecustomize.py").write_text(BLOCK.format(blocked=blocked))
    return subprocess.run(
        [sys.executable, "-c", ENTRY, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )


def test_closed_pipe_is_no_stack_trace():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", ENTRY, "--help"], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    assert done.stderr == b"" and done.returncode == 141


NOTHING = {"torch", "torchvision", "detectron2", "numpy", "PIL", "cv2", "yacs", "tood"}


@pytest.mark.parametrize(
    "line, code",
    [("--help", 0), ("train --help", 0), ("trian", 2), ("detect M a.jpg --foo", 2)],
)
def test_answers_within_a_second_without_any_package(tmp_path, line, code):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run_blocked(tmp_path, NOTHING, *line.split())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    # CPU time, because other programs may keep the machine busy.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


@pytest.mark.parametrize(
    "missing, message",
    [
        ("torch", "error: tood needs torch. Install it: pip install torch torchvision\n"),
        ("torchvision", "error: tood needs torchvision. Install it: pip install torch torchvision"),
        ("detectron2", "error: tood needs detectron2. Install it: tood install-detectron2\n"),
    ],
)
def test_missing_package_names_the_command(tmp_path, missing, message):
    done = run_blocked(tmp_path, {missing}, "train", "TOOD-R50-1x")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(message) and done.stderr.count("\n") == 1


def test_install_detectron2_runs_without_torch(tmp_path):
    done = run_blocked(tmp_path, NOTHING, "install-detectron2")
    assert done.returncode == 2
    assert "pip install torch torchvision" in done.stdout and "Traceback" not in done.stderr


def test_importing_the_parsers_imports_no_other_package():
    code = (
        "import json, sys; before = set(sys.modules); import tood_runtime.cli\n"
        "print(json.dumps(sorted({m.split('.')[0] for m in set(sys.modules) - before})))"
    )
    # -S leaves out installed packages; the working directory has this one.
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(json.loads(done.stdout)) <= set(sys.stdlib_module_names) | {"tood_runtime"}


def test_closed_output_is_no_error():
    """Daemons and cron close it."""
    code = "from tood_runtime.cli import main; raise SystemExit(main(['--help']))"
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} >&-"
    done = subprocess.run(
        command, shell=True, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stderr == ""
