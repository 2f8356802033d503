r"""The paper's Table 6 on your own data: two heads, two assigners, several seeds.

python -m tools.experiments.alignment_table --config-file configs/quickstart/TOOD-R18-shapes.yaml
python -m tools.experiments.alignment_table --config-file configs/TOOD-R50-1x.yaml \
    --output output/bccd --opts DATASETS.TRAIN_ANNOTATIONS bccd/train.json ... \
    SOLVER.MAX_ITER 6000 SOLVER.STEPS "(4000,5500)"

Trains each combination with each seed (tood train), analyzes the result (tood analyze), and prints
means and standard deviations over the seeds. Results that already exist in --output are not
computed again, and a training that was stopped goes on from its checkpoint, so an experiment can be
continued, or split over several machines.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import tood  # noqa: F401  # imported first: reports missing dependencies

# isort: split
import numpy as np
from tabulate import tabulate

from tood.cli.analyze import COLUMNS
from tood.cli.common import exit_on_user_error
from tood.errors import TOODError

# The config options of each row, in the order of Table 6.
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
METRICS = [column for column in COLUMNS if column != "instances"]


def run_command(arguments: Sequence[str], log: Path) -> None:
    """Run a ``tood`` command, with its output in a file.

    Raises:
        TOODError: the command failed.
    """
    with log.open("w") as file:
        done = subprocess.run([sys.executable, "-m", "tood", *arguments], stdout=file, stderr=file)
    if done.returncode:
        raise TOODError(f"tood {arguments[0]} failed with exit code {done.returncode}. See {log}.")


def run_folder(output: Path, row: str, seed: int) -> Path:
    """The folder of a row with a seed."""
    return output / f"{row.replace(' ', '')}-seed{seed}"


def train(config_file: str, options: Sequence[str], folder: Path) -> None:
    """Train, or continue a training that was stopped.

    Args:
        config_file: path of the config.
        options: config options, ``[KEY, VALUE, ...]``.
        folder: of the run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = ["train", "--config-file", config_file, "--output", str(folder), "--resume"]
    run_command([*command, "--opts", *options], folder / "train.log")


def train_and_analyze(
    config_file: str,
    opts: Sequence[str],
    row: str,
    seed: int,
    output: Path,
    row_options: Sequence[str] | None = None,
) -> dict[str, float]:
    """The numbers of a row with a seed, from its file if that exists.

    Args:
        config_file: path of the config.
        opts: config options for all rows, ``[KEY, VALUE, ...]``.
        row: a name, which the folder gets.
        seed: of the training.
        output: folder of the experiment.
        row_options: config options of the row; None for those of :data:`ROWS`.
    """
    folder = run_folder(output, row, seed)
    result = folder / "alignment.json"
    if not result.is_file():
        of_row = ROWS[row] if row_options is None else row_options
        options = [*opts, *of_row, "SEED", str(seed)]
        train(config_file, [*options, "TEST.EVAL_PERIOD", "0"], folder)
        # The weights come last: the options may have others, from which training starts.
        options += ["MODEL.WEIGHTS", str(folder / "model_final.pth")]
        analyze = ["analyze", "--config-file", config_file, "--json", str(result), "--opts"]
        run_command([*analyze, *options], folder / "analysis.log")
    return json.loads(result.read_text())


def summarize(results: Sequence[dict[str, float]]) -> list[str]:
    """Mean and standard deviation over the seeds, for each of :data:`METRICS`."""
    cells = []
    for metric in METRICS:
        values = [result[metric] for result in results]
        cells.append(format_spread(values, 3 if metric in ("PCC", "IoU-top10") else 1))
    return cells


def format_spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean and standard deviation."""
    deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{np.mean(values):.{digits}f} ± {deviation:.{digits}f}"


def spread_cells(runs: Sequence[Mapping[str, float]], metrics: Iterable[str]) -> list[str]:
    """Mean and standard deviation of each metric over the runs that have it; "" where none has."""
    columns = ([run[metric] for run in runs if metric in run] for metric in metrics)
    return [format_spread(values) if values else "" for values in columns]


def read_evaluations(metrics: Path) -> list[dict[str, float]]:
    """The evaluations of a training, the last one last.

    Args:
        metrics: its metrics.json.

    Raises:
        TOODError: it has none.
    """
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    evaluations = [line for line in lines if "bbox/AP" in line]
    if not evaluations:
        raise TOODError(f"{metrics} has no bbox/AP: the training was not evaluated.")
    return evaluations


def run_seeds(
    rows: Iterable[str], seeds: Iterable[int], run: Callable[[str, int], dict[str, float]]
) -> dict[str, list[dict[str, float]]]:
    """Run all rows with each seed, and print each result.

    Args:
        rows: their names.
        seeds: of the trainings; seed by seed, so that every row has one early.
        run: returns the numbers of a row with a seed.

    Returns:
        The numbers of each row, one for each seed.
    """
    results: dict[str, list[dict[str, float]]] = {row: [] for row in rows}
    for seed in seeds:
        for row, found in results.items():
            found.append(run(row, seed))
            print(f"{row}, seed {seed}: {found[-1]}", flush=True)
    return results


def experiment_parser(name: str, description: str | None, output: str) -> argparse.ArgumentParser:
    """A parser with the options of all experiments that train several rows with several seeds.

    Args:
        name: of the module in this package.
        description: of the program.
        output: the default folder.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m tools.experiments.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--output", default=output, help="folder for all results")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ...")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Train, analyze, and print the table.

    Args:
        argv: command line; None for that of the process.
    """
    parser = experiment_parser("alignment_table", __doc__, "output/alignment")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    args = parser.parse_args(argv)
    table = []
    for row in args.rows:
        results = []
        for seed in args.seeds:
            result = train_and_analyze(args.config_file, args.opts, row, seed, Path(args.output))
            values = ", ".join(f"{key} {value:.4g}" for key, value in result.items())
            print(f"{row}, seed {seed}: {values}", flush=True)
            results.append(result)
        table.append([row, *summarize(results)])
    print(tabulate(table, ["", *METRICS], tablefmt="github"))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
