"""Make the environment of a row, run its tests, and remove it."""

import datetime
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools import ROOT
from tools.extras import EXTRAS
from tools.matrix.rows import Row, oldest_torch

# What tests need besides the package; the extra "dev" has it too.
TEST_PACKAGES = ("pytest>=8", "pytest-xdist>=3.8", "hypothesis>=6.100", "setuptools>=77")
TEST_PACKAGES += ("build>=1.0", "httpx>=0.27", "pandas>=2.2.2", "tomli; python_version < '3.11'")
# Seconds that one step of a row may take.
TIMEOUT = 3 * 3600
# Variables that would reach into a fresh environment.
_FOREIGN = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "PYTEST_ADDOPTS", "PIP_CONSTRAINT")


def run_row(
    row: Row, interpreter: str, main_folder: str | None, tests: Sequence[str]
) -> dict[str, Any]:
    """Make the environment of a row, run its tests, and remove it.

    Args:
        row: which.
        interpreter: the program of its Python.
        main_folder: a checkout of detectron2's main branch.
        tests: instead of those of the row.

    Returns:
        The cells of the table, and the "log" of what failed.
    """
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = str(folder / "venv/bin/python")
        environment = {key: value for key, value in os.environ.items() if key not in _FOREIGN}
        environment |= {"OMP_NUM_THREADS": "1"}
        if row.main and main_folder is not None:
            environment["PYTHONPATH"] = main_folder
        package = f"{ROOT}[{','.join(row.extras)}]" if row.extras else str(ROOT)
        modules = [module for extra in row.extras for module in EXTRAS.get(extra, ())]
        steps = [
            [interpreter, "-m", "venv", str(folder / "venv")],
            [*_install(python, row), "-e", package, *TEST_PACKAGES],
            [python, "-m", "tood_runtime.install_detectron2", "--way", "index"],
            [python, "-m", "tood", "check-env"],
            [python, "-c", "\n".join(f"import {module}" for module in modules)],
            [*_pytest(python, folder, row.main), *(tests or row.tests or ["tests"])],
        ]
        code, output = _run_steps(steps, environment)
        versions = _versions(python, environment)
    minutes = (time.perf_counter() - begin) / 60
    outcome = read_outcome(output)
    wrong = wrong_versions(row, versions)
    if wrong or (code and not outcome["failed"]):
        outcome["failed"] = wrong or f"exit code {code}"
    return {"row": row.name, **versions, **outcome, "minutes": round(minutes, 1),
            "date": datetime.date.today().isoformat(), **key_of(row, tests),
            "log": output[-4000:] if code else ""}  # fmt: skip


def _run_steps(steps: Sequence[list[str]], environment: dict[str, str]) -> tuple[int, str]:
    """Run programs until one fails: the exit code and the output of the last."""
    code, output = 0, ""
    for step in steps:
        try:
            done = subprocess.run(
                step, cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
                timeout=TIMEOUT,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return 124, f"{' '.join(step)[:200]} took more than {TIMEOUT} s"
        code, output = done.returncode, done.stdout + done.stderr
        if code:
            break
    return code, output


def key_of(row: Row, tests: Sequence[str]) -> dict[str, Any]:
    """What a result is of, besides the row's name: the commit and the tests."""
    return {"commit": _commit(), "tests": list(tests or row.tests)}


def wrong_versions(row: Row, versions: dict[str, str]) -> str:
    """What an environment has instead of what its row names; "" if nothing."""
    python, detectron2 = versions["python"], versions["detectron2"]
    if not python:
        return ""  # it could not be made, and the step that failed says why
    if python.split(".")[:2] != row.python.split("."):
        return f"Python {python}"
    if row.main == detectron2.startswith("0.4"):
        return f"detectron2 {detectron2}"
    if row.oldest and not versions["torch"].startswith(f"{oldest_torch()}."):
        return f"torch {versions['torch']}"
    return ""


def _install(python: str, row: Row) -> list[str]:
    """The installer of a row: uv, because pip cannot look for the oldest versions that fit."""
    uv = [sys.executable, "-m", "uv", "pip", "install", "-q", "--python", python]
    # What detectron2 0.4 needs would bring the newest TensorBoard, whose protobuf is too new for
    # the oldest W&B and MLflow.
    return [*uv, "--resolution", "lowest-direct", "tensorboard>=2.16"] if row.oldest else uv


def _pytest(python: str, folder: Path, main: bool) -> list[str]:
    # detectron2's own end-to-end tests are slow, and in a checkout of it only.
    chosen = "not slow or detectron2_main" if main else "not slow"
    return [
        *(python, "-m", "pytest", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"),
        *("-m", chosen, "-p", "no:cacheprovider", "--basetemp", str(folder / "tmp")),
    ]


def read_outcome(output: str) -> dict[str, int | str]:
    """Numbers from pytest's last line.

    Args:
        output: of pytest; of another program, if an environment could not be made.

    Returns:
        How many tests "passed", were "skipped" or "failed"; "failed" is "no tests" if none ran.
    """
    lines = [line for line in output.splitlines() if re.search(r"\d+ passed|\d+ failed", line)]
    if not lines:
        return {"passed": 0, "skipped": 0, "failed": "no tests"}
    counts = dict.fromkeys(("passed", "skipped", "failed"), 0)
    for count, kind in re.findall(r"(\d+) (passed|skipped|failed|errors?)", lines[-1]):
        counts["failed" if kind.startswith("error") else kind] += int(count)
    return {**counts}


def _versions(python: str, environment: dict[str, str]) -> dict[str, str]:
    """Of the interpreter, PyTorch and detectron2 in an environment; "" for what does not import."""
    code = (
        "import platform, torch, detectron2;"
        "print(platform.python_version(), torch.__version__, detectron2.__version__)"
    )
    try:
        done = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, check=False, env=environment
        )
    except FileNotFoundError:  # the environment could not be made
        return dict.fromkeys(("python", "torch", "detectron2"), "")
    words = done.stdout.split()[-3:] if done.returncode == 0 else ["", "", ""]
    return dict(zip(("python", "torch", "detectron2"), words, strict=True))


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
