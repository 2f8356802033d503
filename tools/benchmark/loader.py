r"""How many images a second the training loader reads, resizes and flips, by number of workers.

tools/benchmark_loader.py --config-file configs/TOOD-R50-2x.yaml --workers 0 1 2 4 \
    --opts DATASETS.TRAIN_ANNOTATIONS train.json DATASETS.TRAIN_IMAGES images/

Set DATALOADER.NUM_WORKERS (of each GPU's process) so that the number is above what the GPU eats:
SOLVER.IMS_PER_BATCH divided by the GPUs and by the seconds of an iteration.
"""

import argparse
import os
import time

import tood  # noqa: F401  (before the others: it explains what is missing)

# isort: split
from tabulate import tabulate

from tood.config.loading import load_config
from tood.data import build_train_loader, setup_datasets
from tood.errors import exit_on_user_error


def main() -> None:
    """Time the loader for each number of workers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2, 4, 8])
    parser.add_argument("--batches", type=int, default=20, help="timed, after 5 to warm up")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ...")
    args = parser.parse_args()
    rows = []
    for workers in args.workers:
        cfg = load_config(args.config_file, [*args.opts, "DATALOADER.NUM_WORKERS", str(workers)])
        cfg.DATASETS.TEST = ()
        setup_datasets(cfg, ("TRAIN",))
        loader, _ = build_train_loader(cfg)
        batches = iter(loader)
        for _ in range(5):
            next(batches)
        start = time.perf_counter()
        for _ in range(args.batches):
            next(batches)
        seconds = time.perf_counter() - start
        rows.append([workers, args.batches * cfg.SOLVER.IMS_PER_BATCH / seconds])
    print(f"{os.cpu_count()} CPU cores, batches of {cfg.SOLVER.IMS_PER_BATCH}")
    print(tabulate(rows, ["workers", "images/s"], tablefmt="github", floatfmt=("", ".1f")))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
