r"""What options of a training bring: one row for each set of options, several seeds.

python -m tools.experiments.option_table --rows-file tools/experiments/rows/training.yaml \
    --config-file configs/quickstart/TOOD-R18-shapes.yaml --output output/options

A file of rows is a mapping from a name to config options, "KEY VALUE ...". Every run is a training
with evaluations (tood train); the numbers are those of its metrics.json: AP at the end, the best AP
of all evaluations, and AP with test-time augmentation where a row asks for it. Finished runs are
not repeated, and a training that was stopped goes on from its checkpoint, so an experiment can be
continued, or split over several machines.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import tood  # noqa: F401  # imported first: reports missing dependencies

# isort: split
import yaml
from tabulate import tabulate

from tood.cli.common import exit_on_user_error
from tood.errors import TOODError
from tools.experiments.alignment_table import (
    experiment_parser,
    read_evaluations,
    run_folder,
    run_seeds,
    spread_cells,
    train,
)

# Names in metrics.json, and in the table.
METRICS = {
    "bbox/AP": "AP",
    "bbox/AP50": "AP50",
    "bbox/AP75": "AP75",
    "bbox_TTA/AP": "AP with TTA",
}
BEST = "best AP"

Results = dict[str, float]


def read_rows(path: str) -> dict[str, list[str]]:
    """The config options of each row.

    Args:
        path: of a YAML file.

    Raises:
        TOODError: it has no rows, or they are not text.
    """
    rows = yaml.safe_load(Path(path).read_text())
    if not isinstance(rows, Mapping) or not all(isinstance(x, str) for x in rows.values()):
        raise TOODError(f"{path} is no mapping from a name to options, 'KEY VALUE ...'.")
    return {str(name): shlex.split(options) for name, options in rows.items()}


def read_results(metrics: Path) -> Results:
    """The numbers of a finished training.

    Args:
        metrics: its metrics.json.

    Raises:
        TOODError: it has no evaluation.
    """
    evaluations = read_evaluations(metrics)
    results = {
        name: evaluations[-1][key] for key, name in METRICS.items() if key in evaluations[-1]
    }
    return {**results, BEST: max(line["bbox/AP"] for line in evaluations)}


def train_and_read(
    config_file: str, options: Sequence[str], row: str, seed: int, output: Path
) -> Results:
    """Train a row with a seed; return its numbers, from its folder if it has been trained.

    Args:
        config_file: path of the config.
        options: config options, ``[KEY, VALUE, ...]``.
        row: a name, which the folder gets.
        seed: of the training.
        output: folder of the experiment.
    """
    folder = run_folder(output, row, seed)
    if not (folder / "model_final.pth").is_file():
        train(config_file, [*options, "SEED", str(seed)], folder)
    return read_results(folder / "metrics.json")


def make_table(results: Mapping[str, Sequence[Results]]) -> str:
    """Means and standard deviations over the seeds, for each row."""
    columns = [*METRICS.values(), BEST]
    table = [[row, len(runs), *spread_cells(runs, columns)] for row, runs in results.items()]
    return tabulate(table, ["", "seeds", *columns], tablefmt="github")


def main(argv: Sequence[str] | None = None) -> None:
    """Train what has not been trained, and print the table.

    Args:
        argv: command line; None for that of the process.
    """
    parser = experiment_parser("option_table", __doc__, "output/options")
    parser.add_argument("--rows-file", required=True, help="YAML: options of each row")
    parser.add_argument("--rows", nargs="+", help="only these")
    args = parser.parse_args(argv)
    rows = read_rows(args.rows_file)
    unknown = set(args.rows or ()) - set(rows)
    if unknown:
        raise TOODError(f"Unknown row {min(unknown)!r}. Available: {', '.join(rows)}")

    def run(row: str, seed: int) -> Results:
        """Train a row with a seed, if that has not been done."""
        options = [*args.opts, *rows[row]]
        return train_and_read(args.config_file, options, row, seed, Path(args.output))

    print(make_table(run_seeds(args.rows or rows, args.seeds, run)))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
