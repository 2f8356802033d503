r"""Does alignment hold? Table 6 of the paper on data of your own: two heads, two assigners, seeds.

tools/alignment_experiment.py --config-file configs/quickstart/TOOD-R18-shapes.yaml --seeds 1 2 3
tools/alignment_experiment.py --config-file configs/TOOD-R50-1x.yaml --out output/bccd --opts \
    DATASETS.TRAIN_ANNOTATIONS bccd/train.json ... SOLVER.MAX_ITER 6000 "SOLVER.STEPS (4000,5500)"

Trains every combination with every seed by train_net.py, runs tools/analyze_alignment.py on the
result, and prints means and standard deviations over the seeds. What is there already under --out
is not trained again, so that a run can be taken up, or split over several machines.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import tood  # before the others: it explains what is missing

# isort: split
from tabulate import tabulate

from tood.cli.analyze import COLUMNS
from tood.errors import TOODError, exit_on_user_error

ROOT = Path(tood.__file__).resolve().parents[1]

# What each row changes in the config, in the order of Table 6.
PARALLEL = ["MODEL.TOOD.HEAD.NAME", "ParallelHead", "MODEL.TOOD.HEAD.NUM_CONVS", "4"]
CENTERNESS = ["MODEL.TOOD.PARALLEL_HEAD.CENTERNESS", "True"]
ATSS = ["MODEL.TOOD.WARMUP.EPOCHS", "0", "MODEL.TOOD.ALIGNED.ASSIGNER", "ATSSAssigner"]
ATSS += ["MODEL.TOOD.ALIGNED.CRITERION", "CenternessFocalCriterion"]
ROWS = {
    "Parallel head + ATSS": PARALLEL + CENTERNESS + ATSS,
    "T-head + ATSS": ATSS,
    "Parallel head + TAL": PARALLEL,
    "T-head + TAL": [],
}


def run(command: list[str], log: Path) -> None:
    """Run a program of this repository; its output goes into a file.

    Raises:
        TOODError: it failed.
    """
    with log.open("w") as file:
        done = subprocess.run([sys.executable, *command], cwd=ROOT, stdout=file, stderr=file)
    if done.returncode:
        raise TOODError(f"{' '.join(command[:3])} ... failed: see {log}")


def train_and_analyze(args: argparse.Namespace, row: str, seed: int) -> dict[str, float]:
    """The columns of a row with a seed, from its file if it is there."""
    folder = Path(args.out).resolve() / f"{row.replace(' ', '')}-seed{seed}"
    result = folder / "alignment.json"
    if not result.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        weights = str(folder / "model_final.pth")
        config = ["--config-file", str(Path(args.config_file).resolve())]
        options = [*args.opts, *ROWS[row], "SEED", str(seed), "OUTPUT_DIR", str(folder)]
        run(["train_net.py", *config, *options, "TEST.EVAL_PERIOD", "0"], folder / "train.log")
        command = ["-m", "tood.cli.analyze", *config, "--json", str(result), "--opts"]
        run([*command, *options, "MODEL.WEIGHTS", weights], folder / "analysis.log")
    return json.loads(result.read_text())


def main() -> None:
    """Train, analyze, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--out", default="output/alignment")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ...")
    args = parser.parse_args()
    table = []
    for row in args.rows:
        runs = []
        for seed in args.seeds:
            runs.append(train_and_analyze(args, row, seed))
            values = ", ".join(f"{key} {runs[-1][key]:.4g}" for key in COLUMNS)
            print(f"{row}, seed {seed}: {values}", flush=True)
        cells = []
        for key in COLUMNS[:-1]:
            values = [result[key] for result in runs]
            digits = 3 if key in ("PCC", "IoU-top10") else 1
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):.{digits}f} ± {spread:.{digits}f}")
        table.append([row, *cells])
    print(tabulate(table, ["", *COLUMNS[:-1]], tablefmt="github"))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
