r"""Change the code in small ways, and see whether the tests notice: the mutation score.

python -m tools.mutation --output output/mutation
python -m tools.mutation --targets box_ops criteria --sample 100

Needs: pip install cosmic-ray, which makes the mutants: another operator, number or comparison, a
decorator or a "not" less. Nothing on the disk is changed: a process that has loaded PyTorch and
detectron2, but nothing of this project, forks for each mutant, loads the changed module instead of
the file, and runs the target's tests until one fails. Mutants that change only annotations do not
count. Results go to results.json as soon as they are known; mutants that have one are not repeated.
The survivors are listed. Exit code 1: a target is below its floor.
"""

import argparse
import json
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from tools import ROOT
from tools.mutation.mutants import Mutant, MutatedModule, make_mutants
from tools.mutation.targets import TARGETS, Target, find_modules

# How a mutant ends.
KILLED, SURVIVED, TIMEOUT = "killed", "survived", "timeout"


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


def start(mutant: Mutant | None, tests: Sequence[str], seconds: int) -> int:
    """Fork, and run tests on a mutant, or on the code as it is.

    Args:
        mutant: None for none.
        tests: files and folders.
        seconds: after which it is killed.

    Returns:
        The process.
    """
    child = os.fork()
    if child:
        return child
    try:
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
        code = int(pytest.main([*arguments, f"--basetemp=/tmp/mutation-{os.getpid()}", *tests]))
    except BaseException:
        code = 1
    os._exit(code)


def outcome_of(status: int) -> str:
    """How a process ended, from what os.waitpid returns."""
    if os.WIFSIGNALED(status):
        return TIMEOUT if os.WTERMSIG(status) == signal.SIGALRM else KILLED
    return SURVIVED if os.WEXITSTATUS(status) == 0 else KILLED


def run_target(
    target: Target, mutants: Sequence[Mutant], known: dict[str, Any], jobs: int, path: Path
) -> None:
    """Run the mutants of a target that have no result yet.

    Args:
        target: which.
        mutants: of it.
        known: results by name; filled.
        jobs: how many at a time.
        path: of the file with all results.

    Raises:
        SystemExit: the tests fail on the code as it is.
    """
    begin = time.perf_counter()
    _, status = os.waitpid(start(None, target.tests, 1200), 0)
    if outcome_of(status) != SURVIVED:
        sys.exit(f"The tests fail without any mutant: pytest {' '.join(target.tests)}")
    limit = int(30 + 5 * (time.perf_counter() - begin))
    waiting = [mutant for mutant in mutants if mutant.name not in known]
    running: dict[int, Mutant] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            running[start(mutant, target.tests, limit)] = mutant
        child, status = os.wait()
        mutant = running.pop(child)
        outcome = outcome_of(status)
        known[mutant.name] = {"outcome": outcome, "change": mutant.change}
        path.write_text(json.dumps(known, indent=1) + "\n")
        if outcome == SURVIVED:
            print(f"survived: {mutant.path}:{mutant.line}  {mutant.change}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the targets, and print their scores.

    Args:
        argv: command line; None for that of the process.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tools.mutation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--sample", type=int, help="how many mutants of each target, at random")
    parser.add_argument("--jobs", type=int, default=2, help="at a time (2)")
    parser.add_argument("--output", default="output/mutation", help="folder of results.json")
    args = parser.parse_args(argv)
    path = Path(args.output, "results.json").resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    known: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    preload()
    rows, failed = [], False
    for name in args.targets:
        target = TARGETS[name]
        mutants = [mutant for file in find_modules(target) for mutant in make_mutants(file)]
        random.Random(0).shuffle(mutants)
        mutants = mutants[: args.sample]
        run_target(target, mutants, known, args.jobs, path)
        survived = sum(known[mutant.name]["outcome"] == SURVIVED for mutant in mutants)
        score = 100 * (1 - survived / len(mutants))
        rows.append([name, len(mutants), survived, f"{score:.1f}", target.floor])
        failed |= score < target.floor
    print(tabulate(rows, ["target", "mutants", "survived", "score, %", "floor"], "github"))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
