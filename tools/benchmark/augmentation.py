r"""Images per CPU second of the training loader with each augmentation, next to the plain loader.

python -m tools.benchmark.augmentation --config-file custom/TOOD-R50 \
    --opts DATASETS.TRAIN_ANNOTATIONS train.json DATASETS.TRAIN_IMAGES images/

The loaders read in this process and take turns, some batches each. CPU time is counted, which a
busy machine changes less than time; the ratios of the medians hold better than the numbers. Each
worker of a training delivers about that number, if it has a core. "plain" has none of these
augmentations; mosaic and mix-up are used for all images.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import tood  # noqa: F401  # imported first: reports missing dependencies

# isort: split
from detectron2.config import CfgNode
from tabulate import tabulate

from tood.cli.common import exit_on_user_error
from tood.config.merging import merge_options
from tood.data import build_train_loader, setup_datasets
from tood.model_zoo import resolve

# What is switched on, by the name of the row.
AUGMENTATIONS: dict[str, dict[str, object]] = {
    "plain": {},
    "random crop": {"INPUT.CROP.ENABLED": True},
    "large-scale jitter": {"INPUT.LSJ.ENABLED": True},
    "color jitter": {"INPUT.COLOR_JITTER.ENABLED": True},
    "mosaic": {"INPUT.MOSAIC.ENABLED": True, "INPUT.MOSAIC.PROB": 1.0},
    "mix-up": {"INPUT.MIXUP.ENABLED": True, "INPUT.MIXUP.PROB": 1.0},
    "mosaic and mix-up": {
        "INPUT.MOSAIC.ENABLED": True,
        "INPUT.MOSAIC.PROB": 1.0,
        "INPUT.MIXUP.ENABLED": True,
        "INPUT.MIXUP.PROB": 1.0,
    },
}


def build_batches(cfg: CfgNode, name: str) -> Iterator[list[dict[str, Any]]]:
    """Start the loader of an augmentation.

    Args:
        cfg: after `tood.data.setup_datasets`; not changed.
        name: one of :data:`AUGMENTATIONS`.
    """
    cfg = cfg.clone()
    pairs = {**AUGMENTATIONS[name], "DATALOADER.NUM_WORKERS": 0}
    merge_options(cfg, [str(word) for pair in pairs.items() for word in pair])
    return iter(build_train_loader(cfg).loader)


def measure(cfg: CfgNode, batches: int, rounds: int) -> list[list[object]]:
    """Time the loaders of all augmentations; returns the rows of the table.

    Args:
        cfg: after `tood.data.setup_datasets`.
        batches: that a loader is asked for in a turn.
        rounds: turns of each, after one to warm up.
    """
    loaders = {name: build_batches(cfg, name) for name in AUGMENTATIONS}
    times: dict[str, list[float]] = {name: [] for name in loaders}
    for turn in range(rounds + 1):
        for name, loader in loaders.items():
            start = time.process_time()
            for batch in islice(loader, batches):
                del batch
            if turn:
                times[name].append(time.process_time() - start)
        print(f"  round {turn} of {rounds}", file=sys.stderr, flush=True)
    medians = {name: statistics.median(values) for name, values in times.items()}
    images = batches * cfg.SOLVER.IMS_PER_BATCH
    return [[name, images / median, medians["plain"] / median] for name, median in medians.items()]


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmark.augmentation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", required=True, help="or a model-zoo name")
    parser.add_argument("--batches", type=int, default=8, help="in each turn")
    parser.add_argument("--rounds", type=int, default=7, help="timed turns of each")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ...")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table.

    Args:
        argv: command line; None for that of the process.
    """
    args = make_parser().parse_args(argv)
    cfg = resolve(args.config_file).load_config([*args.opts, "MODEL.DEVICE", "cpu"])
    cfg.DATASETS.TEST = ()
    setup_datasets(cfg, ("TRAIN",))
    rows = measure(cfg, args.batches, args.rounds)
    print(f"{os.cpu_count()} CPU cores")
    header = ["augmentation", "images per CPU second", "of plain"]
    print(tabulate(rows, header, tablefmt="github", floatfmt=("", ".1f", ".2f")))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
