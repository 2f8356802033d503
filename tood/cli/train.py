"""``tood train`` and ``train_net.py``: train or evaluate in one or several processes."""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import default_setup, launch
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from torch.multiprocessing import ProcessExitedException

from tood_runtime.cli.parser import EXIT_OK

from ..data import setup_datasets
from ..engine import Trainer, setup_loggers
from ..errors import ConfigError
from .common import exit_on_user_error, load_model_config


def main(args: argparse.Namespace) -> int:
    """Run training or evaluation on the GPUs and machines that the command line names.

    Args:
        args: the options of ``tood train`` or ``tood eval``.

    Returns:
        The exit code.

    Raises:
        ConfigError: the command line does not fit this machine.
    """
    validate_launch(args)
    try:
        launch(
            run,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
    except ProcessExitedException as error:  # one of several processes has printed its error
        sys.exit(error.exit_code)
    return EXIT_OK


def validate_launch(args: argparse.Namespace) -> None:
    """Validate the command line before spawning processes.

    Raises:
        ConfigError: more GPUs than this machine has, or impossible numbers.
    """
    available = torch.cuda.device_count()
    if args.num_gpus > max(available, 1):
        gpus = "1 GPU" if available == 1 else f"{available} GPUs"
        fix = "Lower --num-gpus." if available else "Use --num-gpus 1, which runs on the CPU."
        raise ConfigError(f"--num-gpus {args.num_gpus} exceeds the {gpus} on this machine. {fix}")
    for option, least in (("num_gpus", 0), ("num_machines", 1), ("machine_rank", 0)):
        value = getattr(args, option)
        if value < least:
            raise ConfigError(
                f"--{option.replace('_', '-')} must be at least {least}, not {value}."
            )
    if args.machine_rank >= args.num_machines:
        raise ConfigError(
            f"--machine-rank {args.machine_rank} must be below --num-machines {args.num_machines}."
        )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train or evaluate in one process.

    Returns:
        The results of the (last) evaluation by task, as detectron2's ``DefaultTrainer.test``.
    """
    with exit_on_user_error():
        cfg = setup_run(args)
        if args.eval_only:
            results: dict[str, Any] = Trainer.evaluate_checkpoint(cfg, resume=args.resume)
            if comm.is_main_process():
                verify_results(cfg, results)
            return results
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        return trainer.train() or {}


def setup_run(args: argparse.Namespace) -> CfgNode:
    """Prepare this process for training or evaluation.

    1. Load the config of MODEL or ``--config-file``, and apply the options of the command line.
    2. Register the datasets that the config names, check them, and match their classes with the
       model's; their names go into ``MODEL.TOOD.CLASS_NAMES``, so that the config saved with the
       checkpoints needs no dataset.
    3. Freeze the config.
    4. Start the loggers: everything goes to ``OUTPUT_DIR/log.txt``, the essential lines to the
       terminal.
    5. Call detectron2's ``default_setup``, which creates ``OUTPUT_DIR``, logs the environment and
       the config, writes ``config.yaml``, and seeds the random number generators.

    Args:
        args: the options of ``tood train`` or ``tood eval``.

    Returns:
        The frozen config.

    Raises:
        ConfigError: the config is wrong, or does not fit the datasets.
        DataError: a dataset is missing or invalid.
    """
    output = args.output
    if output is None and args.resume and args.model is not None and Path(args.model).is_dir():
        output = args.model  # its config.yaml may name it relative to another working directory
    opts = [] if output is None else ["OUTPUT_DIR", output]
    cfg = load_model_config(args, trained=args.eval_only, opts=opts)
    setup_datasets(cfg, ("TEST",) if args.eval_only else ("TRAIN", "TEST"))
    cfg.freeze()
    setup_loggers(cfg.OUTPUT_DIR, comm.get_rank())
    default_setup(cfg, args)
    return cfg
