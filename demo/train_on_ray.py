#!/usr/bin/env python3
"""Train TOOD on a Ray cluster: the training of ``tood train`` in the workers of a TorchTrainer.

    pip install "tood-detectron2[ray]"
    python demo/train_on_ray.py --config-file configs/TOOD-R50-1x.yaml --num-workers 8 --use-gpu \
        --storage /shared/ray OUTPUT_DIR /shared/r50

Ray starts one worker for each GPU, connects them, and starts them again after a failure. They then
resume from the last checkpoint in OUTPUT_DIR, which all machines must see. Workers have their own
working directory, so paths in KEY VALUE pairs must be absolute.
"""

import argparse
import os
import sys

import ray.train
from ray.train.torch import TorchTrainer


def train(config: dict) -> None:
    """Train in one worker. Ray has connected it with the others.

    Args:
        config: ``config_file``, and ``opts`` as on the command line of ``tood train``.
    """
    from detectron2.utils import comm

    from tood.config import load_config
    from tood.data import setup_datasets
    from tood.engine import Trainer, launch, setup_loggers
    from tood.engine.launchers import detect_launcher

    cfg = load_config(config["config_file"], config["opts"])
    launch.join(detect_launcher(os.environ), cfg.MODEL.DEVICE)
    setup_datasets(cfg)
    cfg.freeze()
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    setup_loggers(cfg.OUTPUT_DIR, comm.get_rank())
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=True)
    trainer.train()
    ray.train.report({"iterations": trainer.iter})


def main(argv: list[str] | None = None) -> int:
    """Start the workers and wait for them; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument("--num-workers", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--use-gpu", action="store_true", help="one GPU for each worker")
    parser.add_argument("--max-failures", type=int, default=3, help="restarts (default: 3)")
    parser.add_argument("--storage", help="folder for Ray's own files that all machines see")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    args = parser.parse_args(argv)
    trainer = TorchTrainer(
        train,
        train_loop_config={"config_file": os.path.abspath(args.config_file), "opts": args.opts},
        scaling_config=ray.train.ScalingConfig(num_workers=args.num_workers, use_gpu=args.use_gpu),
        run_config=ray.train.RunConfig(
            storage_path=args.storage,
            failure_config=ray.train.FailureConfig(max_failures=args.max_failures),
        ),
    )
    print(trainer.fit().metrics)
    return 0


if __name__ == "__main__":
    sys.exit(main())
