#!/usr/bin/env python3
"""Train TOOD on a Ray cluster: ``tood train`` in the workers of a TorchTrainer.

    pip install "tood-detectron2[ray]"
    python demo/train_on_ray.py --num-workers 8 --use-gpu --storage /shared/ray \
        TOOD-R50-1x --output /shared/r50

Ray starts one worker for each GPU, connects them, and starts them again after a failure. They then
resume from the last checkpoint in the output folder, which all machines must see. All other
words are the command line of ``tood train``. Workers have their own working
directory, so its paths must be absolute.
"""

import argparse
import os
import sys

import ray.train
from ray.train.torch import TorchTrainer


def train(config: dict) -> None:
    """Train in one worker. Ray has connected it with the others.

    Args:
        config: ``arguments``, the command line of ``tood train``.
    """
    from tood.cli.train import run
    from tood.engine.launchers import detect_launcher
    from tood_runtime.cli.dispatch import parse

    _, args = parse(["train", *config["arguments"], "--resume"])
    try:
        run(args, detect_launcher(os.environ))
    except SystemExit as error:  # a user error was printed; Ray would take this for success
        raise RuntimeError(f"tood train exited with code {error.code}") from error


def main(argv: list[str] | None = None) -> int:
    """Start the workers and wait for them; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--num-workers", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--use-gpu", action="store_true", help="one GPU for each worker")
    parser.add_argument("--max-failures", type=int, default=3, help="restarts (default: 3)")
    parser.add_argument("--storage", help="folder for Ray's own files that all machines see")
    args, arguments = parser.parse_known_args(argv)
    trainer = TorchTrainer(
        train,
        train_loop_config={"arguments": arguments},
        scaling_config=ray.train.ScalingConfig(num_workers=args.num_workers, use_gpu=args.use_gpu),
        run_config=ray.train.RunConfig(
            storage_path=args.storage,
            failure_config=ray.train.FailureConfig(max_failures=args.max_failures),
        ),
    )
    trainer.fit()
    return 0


if __name__ == "__main__":
    sys.exit(main())
