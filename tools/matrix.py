r"""Run the tests in fresh environments: interpreters, PyTorch and detectron2 versions, extras.

python -m tools.matrix --list
python -m tools.matrix --detectron2-main ../detectron2 --output output/matrix
python -m tools.matrix --rows "Python 3.13" "only the extra onnx" --tests tests/export tests/runtime

Each row is an environment of its own, made for it and removed after it: an interpreter that was
found on this machine, also in pyenv; the newest or the oldest packages that pyproject.toml allows;
detectron2 0.4 or a checkout of its main branch; and all extras, none, or one. Rows with one extra
run the tests that mention its packages, all others the fast tests. Results go to results.json as
soon as they are known, and rows that have one are not repeated. An environment takes 6 GB and
minutes to make.
"""

import argparse
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from tools import ROOT
from tools.extras import EXTRAS, files_of_extra

VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
# What the project is developed with.
USUAL = "3.11"
# What tests need besides the package; the extra "dev" has it too, with all other extras.
TEST_PACKAGES = ("pytest>=8", "pytest-xdist>=3.7", "hypothesis>=6.100", "setuptools>=77", "build")
TEST_PACKAGES += ("tomli; python_version < '3.11'",)
COLUMNS = ("row", "python", "torch", "detectron2", "passed", "skipped", "failed", "minutes", "date")


@dataclass(frozen=True)
class Row:
    """One environment.

    Attributes:
        name: of the row.
        python: the interpreter's version, such as "3.11".
        oldest: whether everything that pyproject.toml gives a floor is at it, PyTorch included.
        main: whether detectron2 is a checkout of its main branch.
        extras: in "dev" are all.
        tests: folders and files; the fast tests of all where it is empty.
    """

    name: str
    python: str
    oldest: bool = False
    main: bool = False
    extras: tuple[str, ...] = ("dev",)
    tests: tuple[str, ...] = ()


def find_interpreters() -> dict[str, str]:
    """The programs of the Python versions on this machine, by version."""
    found = {}
    for version in VERSIONS:
        own = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
        programs = [shutil.which(f"python{version}"), *map(str, own)]
        # pyenv's shims exist for versions that are not active, too.
        working = [name for name in programs if name is not None and _works(name)]
        if working:
            found[version] = working[0]
    return found


def _works(program: str) -> bool:
    done = subprocess.run([program, "-c", "import venv"], capture_output=True, check=False)
    return done.returncode == 0


def make_rows(versions: Sequence[str]) -> list[Row]:
    """The rows that can run with some versions of Python.

    Args:
        versions: those that were found, oldest first.
    """
    usual = USUAL if USUAL in versions else versions[-1]
    rows = [Row(f"Python {version}", version) for version in versions]
    rows += [
        Row("oldest packages", versions[0], oldest=True),
        Row("detectron2 main", usual, main=True),
        Row("detectron2 main, newest Python", versions[-1], main=True),
        Row("no extras", usual, extras=()),
    ]
    rows += [
        Row(f"only the extra {extra}", usual, extras=(extra,), tests=files_of_extra(extra))
        for extra in EXTRAS
    ]
    return rows


def pinned_to_floor(requirements: Sequence[str]) -> list[str]:
    """Constraints that hold packages at the oldest version that is allowed.

    Args:
        requirements: of pyproject.toml.

    Returns:
        "name==version" for each requirement with a floor.
    """
    found = (re.match(r"([\w.-]+)(?:\[[\w,]+\])?>=([\d.]+)", text) for text in requirements)
    return [f"{match[1]}=={match[2]}" for match in found if match]


def oldest_constraints() -> list[str]:
    """Constraints of the row "oldest packages"."""
    project = _pyproject()["project"]
    extras = project["optional-dependencies"]
    return pinned_to_floor(
        [*project["dependencies"], *(text for name in EXTRAS for text in extras[name])]
    )


def _pyproject() -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


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
        environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": main_folder if row.main else ""}
        pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        if row.oldest:
            (folder / "oldest.txt").write_text("\n".join(oldest_constraints()) + "\n")
            pip += ["-c", str(folder / "oldest.txt")]
        package = f"{ROOT}[{','.join(row.extras)}]" if row.extras else str(ROOT)
        commands = [
            [interpreter, "-m", "venv", str(folder / "venv")],
            [*pip, "-e", package, *TEST_PACKAGES],
            [python, "-m", "tood_runtime.install_detectron2", "--way", "index"],
            [python, "-m", "tood", "check-env"],
            [*_pytest(python, folder), *(tests or row.tests or ["tests"])],
        ]
        for command in commands:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode and command is not commands[-1]:
                break
        versions = _versions(python, environment)
    minutes = (time.perf_counter() - begin) / 60
    return {"row": row.name, **versions, **read_outcome(done.stdout), "minutes": round(minutes, 1),
            "date": datetime.date.today().isoformat(), "commit": _commit(),
            "log": (done.stdout + done.stderr)[-4000:] if done.returncode else ""}  # fmt: skip


def _pytest(python: str, folder: Path) -> list[str]:
    return [
        *(python, "-m", "pytest", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"),
        *("-m", "not slow", "-p", "no:cacheprovider", "--basetemp", str(folder / "tmp")),
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
    done = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    names = ("python", "torch", "detectron2")
    return dict(zip(names, done.stdout.split() or ("", "", ""), strict=True))


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()


def make_table(results: Sequence[dict[str, Any]]) -> str:
    """One line per row."""
    return tabulate([[x[name] for name in COLUMNS] for x in results], COLUMNS, tablefmt="github")


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.matrix",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--list", action="store_true", help="print the rows, and stop")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="run only these")
    parser.add_argument("--tests", nargs="+", default=[], help="instead of those of the rows")
    parser.add_argument("--detectron2-main", metavar="DIR", help="a checkout; without it, no main")
    parser.add_argument("--output", default="output/matrix", help="folder of results.json")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the rows, and print the table.

    Args:
        argv: command line; None for that of the process.

    Returns:
        The exit code: 1 if a row failed.
    """
    parser = make_parser()
    args = parser.parse_args(argv)
    interpreters = find_interpreters()
    rows = [row for row in make_rows(list(interpreters)) if args.detectron2_main or not row.main]
    if args.rows:
        unknown = set(args.rows) - {row.name for row in rows}
        if unknown:
            parser.error(f"unknown rows {sorted(unknown)}. --list shows those of this machine.")
        rows = [row for row in rows if row.name in args.rows]
    if args.list:
        print("\n".join(row.name for row in rows))
        return 0
    path = Path(args.output, "results.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else []
    for row in rows:
        if any(result["row"] == row.name for result in results):
            continue
        result = run_row(row, interpreters[row.python], args.detectron2_main, args.tests)
        results.append(result)
        path.write_text(json.dumps(results, indent=1) + "\n")
        print(f"{row.name}: {result['passed']} passed, {result['failed']} failed", flush=True)
    print(make_table(results))
    return int(any(result["failed"] for result in results))


if __name__ == "__main__":
    sys.exit(main())
