r"""Run the tests in fresh environments: interpreters, PyTorch and detectron2 versions, extras.

python -m tools.matrix --list
python -m tools.matrix --detectron2-main ../detectron2 --output output/matrix
python -m tools.matrix --rows "Python 3.13" "only the extra onnx" --tests tests/export tests/runtime

Each row is an environment of its own, made for it and removed after it: an interpreter that was
found on this machine, also in pyenv; the newest or the oldest packages that pyproject.toml allows;
detectron2 0.4 or a checkout of its main branch; and all extras, none, or one. Rows with one extra
run the tests that mention its packages, all others the fast tests, and those of main also
detectron2's own end-to-end tests. A row whose versions are not those that it names, or whose extras
do not import, has failed. Results go to results.json as soon as they are known, and rows that have
one, of this commit and these tests, are not repeated. Needs uv ("pip install uv"), which also finds
the oldest packages that fit together, and 6 GB of disk.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tabulate import tabulate

from tools.matrix.rows import find_interpreters, make_rows
from tools.matrix.running import key_of, run_row

COLUMNS = ("row", "python", "torch", "detectron2", "passed", "skipped", "failed", "minutes", "date")


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
    if args.detectron2_main:
        main_folder = Path(args.detectron2_main).resolve()
        if not (main_folder / "detectron2/__init__.py").is_file():
            parser.error(f"{main_folder} is not a checkout of detectron2: it has no detectron2/")
        args.detectron2_main = str(main_folder)
    if find_spec("uv") is None:
        parser.error("making environments needs uv: pip install uv")
    path = Path(args.output, "results.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else []
    for row in rows:
        known = next((result for result in results if result["row"] == row.name), None)
        if known is not None:
            if key_of(row, args.tests).items() <= known.items():
                continue
            results.remove(known)
        result = run_row(row, interpreters[row.python], args.detectron2_main, args.tests)
        results.append(result)
        path.write_text(json.dumps(results, indent=1) + "\n")
        print(f"{row.name}: {result['passed']} passed, {result['failed']} failed", flush=True)
    print(make_table(results))
    return int(any(result["failed"] for result in results))


if __name__ == "__main__":
    sys.exit(main())
