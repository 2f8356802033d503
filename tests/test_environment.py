"""Missing and mismatched packages, in interpreters of their own."""

import os
import subprocess
import sys

import pytest

from tests.helpers import ROOT


def run_python(folder, *arguments: str) -> subprocess.CompletedProcess:
    """Run an interpreter that finds the modules in ``folder`` first."""
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )


MISSING = "raise ModuleNotFoundError(\"No module named '{0}'\", name='{0}')"
CASES = [
    ("torch", MISSING.format("torch"), "pip install torch torchvision"),
    ("torchvision", MISSING.format("torchvision"), "pip install torch torchvision"),
    ("detectron2", MISSING.format("detectron2"), "tood install-detectron2"),
    (
        "torchvision",
        "raise RuntimeError('operator torchvision::nms does not exist')",
        "pip install --force-reinstall torch torchvision",
    ),
]


@pytest.mark.parametrize("package, content, fix", CASES)
def test_import_names_the_fix(tmp_path, package, content, fix):
    (tmp_path / f"{package}.py").write_text(content)
    done = run_python(tmp_path, "-c", "import tood")
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and last.startswith(("ModuleNotFoundError: ", "ImportError: "))
    assert package in last and last.endswith(fix)


@pytest.mark.parametrize("package, content, fix", CASES[2:])
def test_command_prints_one_line(tmp_path, package, content, fix):
    (tmp_path / f"{package}.py").write_text(content)
    code = "import sys; from tood_runtime.cli import main; sys.exit(main(['check-env']))"
    done = run_python(tmp_path, "-c", code)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and fix in done.stderr


def test_python_m_tood_is_the_command(tmp_path):
    done = run_python(tmp_path, "-m", "tood", "trian")
    assert done.returncode == 2 and done.stderr.startswith("error: Unknown command 'trian'.")
