r"""Heads and assigners with and without pretrained weights, next to detectron2's RetinaNet.

python -m tools.experiments.backbone_table --weights efficientnet_lite0.pth --output output/bccd \
    --config-file configs/small/TOOD-EfficientNetLite0-320.yaml --opts SOLVER.MAX_ITER 600 ...

Trains each row of the paper's Table 6, and detectron2's RetinaNet with the same backbone, FPN and
schedule: with all seeds from --weights, then with all seeds from random weights. The result of each
run goes into its folder and into results.json in --output as soon as it is known. Runs that have
one are not repeated, and a training that was stopped goes on from its checkpoint. A run that
fails is reported, and the next begins.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tood  # noqa: F401  # imported first: reports missing dependencies

# isort: split
from tabulate import tabulate

from tood.cli.common import exit_on_user_error
from tood.errors import TOODError
from tools.experiments import alignment_table as table

# detectron2's own values for RetinaNet, and a limit on the gradient: without one, it may diverge at
# TOOD's learning rate.
RETINANET = [
    *("MODEL.META_ARCHITECTURE", "RetinaNet"),
    *("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "[[0.5, 1.0, 2.0]]"),
    *("MODEL.RETINANET.SMOOTH_L1_LOSS_BETA", "0.1"),
    *("SOLVER.CLIP_GRADIENTS.ENABLED", "True"),
    *("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "norm"),
    *("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "10.0"),
]
_SIZES = [[size * 2 ** (i / 3) for i in range(3)] for size in (32, 64, 128, 256, 512)]
RETINANET += ["MODEL.ANCHOR_GENERATOR.SIZES", str(_SIZES)]
ROWS = {
    "T-head + TAL": table.ROWS["T-head + TAL"],
    "T-head + ATSS": table.ROWS["T-head + ATSS"],
    "Parallel head + TAL": table.ROWS["Parallel head + TAL"],
    "Parallel head + ATSS": table.ROWS["Parallel head + ATSS"],
    "RetinaNet": RETINANET,
}
STARTS = ("weights", "random")


def run_all(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Train what has no result yet.

    Args:
        args: the command line.

    Returns:
        By "start/row/seed" the numbers of each run, or its "failure".
    """
    path = Path(args.output, "results.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Also those of rows and seeds that this call does not ask for.
    results: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else {}
    for start in args.starts:
        weights = ["MODEL.WEIGHTS", args.weights if start == "weights" else ""]
        for seed in args.seeds:
            for row in args.rows:
                begin = time.perf_counter()
                try:
                    result = _run(args, start, row, seed, [*args.opts, *weights])
                except TOODError as error:
                    result = {"failure": str(error)}
                name = f"{start}/{row}/{seed}"
                results[name] = result
                print(f"{name}, {time.perf_counter() - begin:.0f} s: {result}", flush=True)
                path.write_text(json.dumps(results, indent=1) + "\n")
    return results


def _run(
    args: argparse.Namespace, start: str, row: str, seed: int, opts: Sequence[str]
) -> dict[str, float]:
    """One run, from its file if that exists."""
    folder = Path(args.output, start)
    return table.train_and_analyze(args.config_file, opts, row, seed, folder, ROWS[row])


def make_table(results: dict[str, dict[str, Any]]) -> str:
    """Means and standard deviations over the seeds that have a result, and their number."""
    groups: dict[tuple[str, str], list[dict[str, float]]] = {}
    for name, result in results.items():
        start, row, _ = name.split("/")
        if "failure" not in result:
            groups.setdefault((start, row), []).append(result)
    rows = [
        [start, row, len(found), *table.summarize(found)] for (start, row), found in groups.items()
    ]
    return tabulate(rows, ["start", "", "seeds", *table.METRICS], tablefmt="github")


def main(argv: Sequence[str] | None = None) -> None:
    """Train, analyze, and print the table.

    Args:
        argv: command line; None for that of the process.
    """
    parser = table.experiment_parser("backbone_table", __doc__, "output/backbones")
    parser.add_argument("--weights", default="", help="of the backbone, for the start 'weights'")
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=list(STARTS))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    args = parser.parse_args(argv)
    if "weights" in args.starts and not Path(args.weights).is_file():
        parser.error(f"--weights {args.weights!r} is not a file")
    print(make_table(run_all(args)))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
