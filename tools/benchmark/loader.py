r"""Images per second of the training loader, by number of workers: reading, resizing, flipping.

python -m tools.benchmark.loader --config-file configs/TOOD-R50-2x.yaml --workers 0 1 2 4 \
    --opts DATASETS.TRAIN_ANNOTATIONS train.json DATASETS.TRAIN_IMAGES images/

Choose DATALOADER.NUM_WORKERS (per GPU) so that the loader is faster than the GPU: faster than
SOLVER.IMS_PER_BATCH divided by the number of GPUs and by the seconds of an iteration.
"""

import argparse
import os
import time
from collections.abc import Sequence

import tood  # noqa: F401  # imported first: reports missing dependencies

# isort: split
from tabulate import tabulate

from tood.cli.common import exit_on_user_error
from tood.config.loading import load_config
from tood.data import build_train_loader, setup_datasets

WARMUP_BATCHES = 5


def images_per_second(config_file: str, opts: list[str], workers: int, batches: int) -> float:
    """Time the training loader of a config.

    Args:
        config_file: path of the config.
        opts: config options, ``[KEY, VALUE, ...]``.
        workers: processes that read images; 0 to read in this process.
        batches: how many to time.
    """
    cfg = load_config(config_file, [*opts, "DATALOADER.NUM_WORKERS", str(workers)])
    cfg.DATASETS.TEST = ()
    setup_datasets(cfg, ("TRAIN",))
    iterator = iter(build_train_loader(cfg).loader)
    for _ in range(WARMUP_BATCHES):
        next(iterator)
    start = time.perf_counter()
    for _ in range(batches):
        next(iterator)
    return batches * cfg.SOLVER.IMS_PER_BATCH / (time.perf_counter() - start)


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmark.loader",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2, 4, 8])
    parser.add_argument("--batches", type=int, default=20, help="timed, after 5 to warm up")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ...")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table.

    Args:
        argv: command line; None for that of the process.
    """
    args = make_parser().parse_args(argv)
    rows = [
        [workers, images_per_second(args.config_file, args.opts, workers, args.batches)]
        for workers in args.workers
    ]
    print(f"{os.cpu_count()} CPU cores")
    print(tabulate(rows, ["workers", "images/s"], tablefmt="github", floatfmt=("", ".1f")))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
