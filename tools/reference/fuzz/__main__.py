"""Compare this project with MMDetection 3.3.0 on random cases, thousands of them.

python -m tools.reference.fuzz --cases 1000
python -m tools.reference.fuzz --checks head --first 417 --cases 1     # one case again

Needs: pip install -e ".[mmdet]". Each check draws levels, strides, image sizes, 1 to 1203 classes
and 0 to 5000 objects from the number of the case, and computes both sides in float64: the assigners
of both phases with any topk and exponents, and the whole T-head with any depth, deformable
convolutions, box coding and post-processing, its losses in both phases with their gradients, and
its detections. A difference is either explained by the check, such as a tie whose order is not
defined, or it is stored in --output, and the program fails. docs/results/fuzzing.md has what was
run.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import tood  # noqa: F401  # imported first: reports missing dependencies

# isort: split
import torch
from tabulate import tabulate

from tood.cli.common import exit_on_user_error
from tools.reference.fuzz.ablations import check_ablation
from tools.reference.fuzz.assigners import ASSIGNER_CHECKS, Differences
from tools.reference.fuzz.heads import check_head
from tools.reference.fuzz.scenes import Scene
from tools.reference.mmdet import import_mmdet, precision

Check = Callable[[torch.Generator, int], tuple[Scene, Differences]]
CHECKS: dict[str, Check] = {**ASSIGNER_CHECKS, "ablation": check_ablation, "head": check_head}
# The most objects of an image: usually, and in one case of 25.
MAX_OBJECTS = {
    "ATSS": (300, 5000),
    "TAL": (300, 5000),
    "ablation": (100, 1000),
    "head": (100, 1000),
}


def run_case(name: str, number: int) -> tuple[Scene, Differences]:
    """Run one case of a check.

    Args:
        name: of the check, a key of :data:`CHECKS`.
        number: of the case, from which everything is drawn.

    Returns:
        The scene, and what differs: a description each, and the explanation, or "".
    """
    generator = torch.Generator().manual_seed(number)
    usual, most = MAX_OBJECTS[name]
    with precision(torch.float64):
        return CHECKS[name](generator, most if number % 25 == 24 else usual)


def run(names: Sequence[str], numbers: Sequence[int], output: Path) -> dict[str, Counter[str]]:
    """Run cases, and store those with differences that nothing explains.

    Args:
        names: of the checks.
        numbers: of the cases.
        output: folder of the stored cases.

    Returns:
        For each check the number of cases by outcome: "equal", "unexplained", or the explanation.
    """
    outcomes = {}
    for name in names:
        begin, counts = time.perf_counter(), Counter[str]()
        for number in numbers:
            scene, differences = run_case(name, number)
            unexplained = [what for what, why in differences if not why]
            if unexplained:
                counts["unexplained"] += 1
                case = {"check": name, "case": number, **scene.describe()}
                case["differences"] = unexplained
                output.mkdir(parents=True, exist_ok=True)
                path = output / f"{name}-{number}.json"
                path.write_text(json.dumps(case, indent=1) + "\n")
                print(f"{path}: {'; '.join(unexplained)}", flush=True)
            else:
                counts[differences[0][1] if differences else "equal"] += 1
        seconds = time.perf_counter() - begin
        print(f"{name}: {len(numbers)} cases in {seconds:.0f} s", file=sys.stderr, flush=True)
        outcomes[name] = counts
    return outcomes


def make_table(outcomes: dict[str, Counter[str]]) -> str:
    """Cases by check and outcome."""
    rows = [
        [name, outcome, count]
        for name, counts in outcomes.items()
        for outcome, count in counts.most_common()
    ]
    return tabulate(rows, ["check", "outcome", "cases"], tablefmt="github")


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.reference.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checks", nargs="+", choices=CHECKS, default=list(CHECKS))
    parser.add_argument("--cases", type=int, default=100, help="of each check")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--output", default="output/fuzz", help="folder for differences")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the cases, and print the table.

    Args:
        argv: command line; None for that of the process.

    Raises:
        SystemExit: with status 1, if a difference is not explained.
    """
    args = make_parser().parse_args(argv)
    import_mmdet()
    numbers = range(args.first, args.first + args.cases)
    outcomes = run(args.checks, numbers, Path(args.output))
    print(make_table(outcomes))
    if any("unexplained" in counts for counts in outcomes.values()):
        sys.exit(1)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
