"""Run a target's tests on its mutants, each in a process of its own."""

import contextlib
import functools
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tools import ROOT
from tools.mutation.mutants import Mutant, MutatedModule
from tools.mutation.targets import Target

# How a mutant ends. A test noticed it, or an import failed; none did; the tests hung; or what ran
# them failed, which says nothing about the tests.
KILLED, SURVIVED, TIMEOUT, ERROR = "killed", "survived", "timeout", "error"
# Of pytest: all passed; some failed; interrupted, by an error of an import in a test module, or in
# a conftest.py.
_PASSED, _FAILED, _INTERRUPTED, _USAGE_ERROR = 0, 1, 2, 4
_HARNESS_FAILED = 70


def preload() -> None:
    """Import what all tests need, and nothing of this project."""
    import cv2  # noqa: F401
    import detectron2.checkpoint
    import detectron2.data
    import detectron2.engine
    import detectron2.modeling  # noqa: F401
    import hypothesis  # noqa: F401
    import pytest  # noqa: F401
    import torch
    import torchvision  # noqa: F401

    torch.set_num_threads(1)
    assert not [name for name in sys.modules if name.partition(".")[0] in ("tood", "tests")]


def start(mutant: Mutant | None, tests: Sequence[str], seconds: int, folder: str) -> int:
    """Fork, and run tests on a mutant, or on the code as it is.

    Args:
        mutant: None for none.
        tests: files and folders.
        seconds: after which it is killed.
        folder: for the tests' files.

    Returns:
        The process, which leads a group of its own.
    """
    child = os.fork()
    if child:
        return child
    code = _HARNESS_FAILED
    try:
        os.setsid()
        signal.alarm(seconds)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.chdir(ROOT)
        if mutant is not None:
            module = mutant.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            loader = MutatedModule(module, str(ROOT / mutant.path), mutant.code)
            sys.meta_path.insert(0, loader)
        import pytest

        arguments = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-m", "not slow"]
        code = int(pytest.main([*arguments, f"--basetemp={folder}/{os.getpid()}", *tests]))
    finally:
        os._exit(code)


def outcome_of(status: int) -> str:
    """How a process ended, from what os.waitpid returns."""
    if os.WIFSIGNALED(status):
        return TIMEOUT if os.WTERMSIG(status) == signal.SIGALRM else ERROR
    code = os.WEXITSTATUS(status)
    if code == _PASSED:
        return SURVIVED
    return KILLED if code in (_FAILED, _INTERRUPTED, _USAGE_ERROR) else ERROR


def fingerprint(mutant: Mutant, tests: Sequence[str]) -> str:
    """Of the mutated code, its tests, and what all tests share; not of other modules."""
    digest = hashlib.sha256(mutant.code.encode() + _digest_of_shared())
    for name in tests:
        path = ROOT / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


@functools.cache
def _digest_of_shared() -> bytes:
    """Of the files in ``tests`` that are no test modules."""
    files = [x for x in (ROOT / "tests").rglob("*.py") if not x.name.startswith("test_")]
    digest = hashlib.sha256()
    for file in sorted([*files, *(ROOT / "tests/golden").glob("*")]):
        digest.update(file.read_bytes())
    return digest.digest()


def run_mutants(
    target: Target,
    mutants: Sequence[Mutant],
    jobs: int,
    report: Callable[[Mutant, str], None],
) -> None:
    """Run the tests of a target on its mutants.

    Those that time out run again one by one: with others, the tests may just have been slow.

    Args:
        target: which.
        mutants: of it.
        jobs: how many at a time.
        report: is called with each mutant and its outcome.

    Raises:
        SystemExit: the tests fail on the code as it is.
    """
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        begin = time.perf_counter()
        _, status = os.waitpid(start(None, target.tests, 1200, folder), 0)
        if outcome_of(status) != SURVIVED:
            sys.exit(f"The tests fail without any mutant: pytest {' '.join(target.tests)}")
        limit = int(30 + 5 * (time.perf_counter() - begin))
        late = []
        for mutant, outcome in _run_all(target, mutants, jobs, limit, folder):
            if outcome == TIMEOUT and jobs > 1:
                late.append(mutant)
            else:
                report(mutant, outcome)
        for mutant, outcome in _run_all(target, late, 1, limit, folder):
            report(mutant, outcome)


def _run_all(
    target: Target, mutants: Sequence[Mutant], jobs: int, limit: int, folder: str
) -> Iterator[tuple[Mutant, str]]:
    waiting, running = list(mutants), dict[int, Mutant]()
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            running[start(mutant, target.tests, limit, folder)] = mutant
        child, status = os.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what the tests have started
        shutil.rmtree(Path(folder, str(child)), ignore_errors=True)
        yield running.pop(child), outcome_of(status)
