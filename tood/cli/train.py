"""Train or evaluate TOOD: the command line that users of detectron2 know.

./train_net.py --config-file configs/TOOD-R50-1x.yaml --num-gpus 8
./train_net.py --config-file configs/TOOD-R50-1x.yaml --eval-only MODEL.WEIGHTS <file or URL>

Your own data, in COCO format, needs no code: DATASETS.TRAIN_ANNOTATIONS, TRAIN_IMAGES, TEST_ANNOTATIONS and
TEST_IMAGES at the end of the command.
"""

import argparse
import sys

import tood  # noqa: F401  (before the others: it explains what is missing)

# isort: split
import torch
from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser, default_setup, launch
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from torch.multiprocessing import ProcessExitedException

from tood.config.loading import load_config
from tood.data import setup_datasets
from tood.engine import Trainer
from tood.errors import ConfigError, exit_on_user_error


def setup(args: argparse.Namespace) -> CfgNode:
    """The config of a run, its loggers and its output folder."""
    cfg = load_config(args.config_file, args.opts)
    setup_datasets(cfg, ("TEST",) if args.eval_only else ("TRAIN", "TEST"))
    cfg.freeze()
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="tood")
    default_setup(cfg, args)
    return cfg


def run(args: argparse.Namespace) -> dict:
    """Train or evaluate in one process."""
    with exit_on_user_error():
        cfg = setup(args)
        if args.eval_only:
            results = Trainer.evaluate_checkpoint(cfg, resume=args.resume)
            if comm.is_main_process():
                verify_results(cfg, results)
            return results
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        return trainer.train()


def check(args: argparse.Namespace) -> None:
    """Say at once what would otherwise fail in the middle of the launch."""
    available = torch.cuda.device_count()
    if args.num_gpus > max(available, 1):
        raise ConfigError(f"--num-gpus is {args.num_gpus}, and this machine has {available} GPUs")
    if not args.config_file:
        raise ConfigError("add --config-file, for example configs/TOOD-R50-1x.yaml")


def main() -> None:
    """Train or evaluate in as many processes as asked for."""
    arguments = default_argument_parser(epilog=__doc__).parse_args()
    with exit_on_user_error():
        check(arguments)
    try:
        launch(
            run,
            arguments.num_gpus,
            num_machines=arguments.num_machines,
            machine_rank=arguments.machine_rank,
            dist_url=arguments.dist_url,
            args=(arguments,),
        )
    except ProcessExitedException as error:  # a process among several has said why
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
