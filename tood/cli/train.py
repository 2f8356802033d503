"""``tood train`` and ``train_net.py``: train or evaluate in one or several processes."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm

from tood_runtime.model_files import is_model_file

from ..checkpoint.resuming import find_last_checkpoint, set_aside_last_checkpoint
from ..checkpoint.saving import make_folder, write_text
from ..compat import compute_on_main_process
from ..config.validation import validate_solver, validate_test
from ..data import setup_datasets
from ..engine import Trainer, launch, setup_loggers
from ..engine.expected_results import verify_expected_results
from ..engine.failures import FailureReport
from ..engine.launchers import Launcher, detect_launcher
from ..engine.processes import restart_count
from ..engine.report import write_run_report
from ..engine.run_folder import RunFolder, evaluation_folder
from ..engine.signals import TrainingInterrupted, exit_code, requeue_job, stop_request
from ..errors import CheckpointError, ConfigError
from ..model_zoo.resolving import is_checkpoint
from .common import exit_on_user_error, load_model_config

logger = logging.getLogger(__name__)


def main(args: argparse.Namespace) -> int:
    """Run training or evaluation on the GPUs and machines that the command line names.

    Args:
        args: the options of ``tood train`` or ``tood eval``.

    Returns:
        The exit code.

    Raises:
        ConfigError: the command line does not fit this machine, or what has started this process.
    """
    if args.requeue and not os.environ.get("SLURM_JOB_ID"):
        raise ConfigError("--requeue is for jobs of SLURM, but SLURM_JOB_ID is not set.")
    return launch.start(run, args, detect_launcher(os.environ), launch.asks_for_cpu(args))


def run(args: argparse.Namespace, launcher: Launcher | None = None) -> dict[str, Any]:
    """Train or evaluate in one process.

    Args:
        args: the options of ``tood train`` or ``tood eval``.
        launcher: the place of this process among several; None if it is alone.

    Returns:
        The results of the (last) evaluation by task, as detectron2's ``DefaultTrainer.test``.
    """
    report = FailureReport(launcher)
    with report.wait_for_others(), exit_on_user_error(), report.only_first():
        cfg = load_run_config(args)
        launch.join(launcher, cfg.MODEL.DEVICE)
        with stop_request.installed(), exit_when_interrupted(args):
            return _evaluate(cfg, args) if args.eval_only else _train(cfg, args)


def _train(cfg: CfgNode, args: argparse.Namespace) -> dict[str, Any]:
    args.resume = args.resume or restart_count(os.environ) > 0
    with lock_run_folder(cfg.OUTPUT_DIR, args.resume) as (run_id, folder):
        with keep_config_file(cfg.OUTPUT_DIR):
            setup_run(cfg, args)
        for note in [] if folder is None else folder.notes:
            logger.warning("%s", note)
        if restarts := restart_count(os.environ):
            logger.info("The launcher has started this job again (%d): --resume.", restarts)
        trainer = Trainer(cfg, run_id)
        trainer.resume_or_load(resume=args.resume)
        compute_on_main_process(lambda: begin_run(folder, args.resume, cfg.dump()))
        return trainer.train() or {}


def _evaluate(cfg: CfgNode, args: argparse.Namespace) -> dict[str, Any]:
    """Evaluate; the folder of a training is read, but its files are not written."""
    trained = cfg.OUTPUT_DIR
    if args.resume:
        checkpoint = compute_on_main_process(lambda: find_last_checkpoint(trained))
        if checkpoint is None:
            logger.warning("%s holds no checkpoint: MODEL.WEIGHTS is evaluated.", trained)
        else:
            cfg.MODEL.WEIGHTS = str(checkpoint)
    cfg.OUTPUT_DIR = compute_on_main_process(lambda: make_evaluation_folder(trained))
    setup_run(cfg, args)
    results: dict[str, Any] = Trainer.evaluate_checkpoint(cfg)
    is_of_run = Path(trained).resolve() == Path(cfg.MODEL.WEIGHTS).resolve().parent
    write_run_report(cfg, results, trained if is_of_run else None)
    verify_expected_results(cfg, results)
    return results


def load_run_config(args: argparse.Namespace) -> CfgNode:
    """Load the config of MODEL or ``--config-file``, and apply the options of the command line.

    With ``--resume``, and for an evaluation, a run's folder is ``OUTPUT_DIR`` itself: its
    config.yaml may name it relative to another working directory.

    Args:
        args: the options of ``tood train`` or ``tood eval``.

    Raises:
        ConfigError: the config is wrong.
        CheckpointError: MODEL is to be evaluated, and has no weights.
    """
    output = args.output
    in_place = args.resume or args.eval_only or restart_count(os.environ) > 0
    if output is None and in_place and args.model is not None and Path(args.model).is_dir():
        output = args.model
    opts = [] if output is None else ["OUTPUT_DIR", output]
    return load_model_config(args, trained=args.eval_only, opts=opts, exported=args.eval_only)


def setup_run(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Prepare this process for training or evaluation, in a folder that it may write.

    1. Check the values of the config that need no dataset: large ones take minutes to read.
    2. Start the loggers: everything goes to ``OUTPUT_DIR/log.txt``, the essential lines to the
       terminal.
    3. Read the datasets that the config names, check them, and match their classes with the
       model's; their names go into ``MODEL.TOOD.CLASS_NAMES``, so that the config saved with the
       checkpoints needs no dataset.
    4. Freeze the config.
    5. Call detectron2's ``default_setup``, which logs the environment and the config, writes
       ``config.yaml``, and seeds the random number generators.

    Args:
        cfg: from `load_run_config`; changed in place.
        args: the options of ``tood train`` or ``tood eval``.

    Raises:
        ConfigError: a setting cannot work, or the config does not fit the datasets.
        DataError: a dataset is missing or invalid.
    """
    if args.eval_only:
        validate_test(cfg, build_model=not is_model_file(cfg.MODEL.WEIGHTS))
    else:
        validate_solver(cfg)
    setup_loggers(cfg.OUTPUT_DIR, comm.get_rank())
    setup_datasets(cfg, ("TEST",) if args.eval_only else ("TRAIN", "TEST"))
    cfg.freeze()
    # It would log the text of this file, which a checkpoint or an exported model is not.
    has_text = not (is_checkpoint(args.config_file) or is_model_file(args.config_file))
    config_file = args.config_file if has_text else ""
    default_setup(cfg, argparse.Namespace(**{**vars(args), "config_file": config_file}))


@contextmanager
def lock_run_folder(path: str, resume: bool) -> Iterator[tuple[str, RunFolder | None]]:
    """Hold the lock on a training's folder; all processes call it together.

    Yields:
        The id of the run, and the folder in the main process or None in the others.

    Raises:
        ConfigError: another training uses the folder, or it cannot be written.
    """
    held: list[RunFolder] = []

    def acquire() -> str:
        held.append(RunFolder.acquire(path, resume=resume))
        return held[0].run_id

    try:
        run_id = compute_on_main_process(acquire)
        yield run_id, held[0] if held else None
    finally:
        for folder in held:
            folder.release()


@contextmanager
def keep_config_file(folder: str) -> Iterator[None]:
    """Keep the config.yaml of an earlier run, which detectron2's setup overwrites, if that fails.

    `begin_run` writes that of the new run.
    """
    path = Path(folder) / "config.yaml"
    earlier = None
    if comm.is_main_process() and path.is_file():
        earlier = path.read_text(encoding="utf-8", errors="replace")
    try:
        yield
    finally:
        if earlier is not None:
            write_text(path, earlier)


def begin_run(folder: RunFolder | None, resume: bool, config: str) -> None:
    """Replace what the folder says about its run; nothing of the setup can fail any more.

    Args:
        folder: of the run.
        resume: whether the run in it goes on.
        config: the text of its config.yaml.
    """
    if folder is not None:
        if not resume:
            set_aside_last_checkpoint(folder.path)
        write_text(folder.path / "config.yaml", config)
        folder.write_run_file()


def make_evaluation_folder(output_dir: str) -> str:
    """Create the folder that an evaluation writes into, and return it.

    Raises:
        ConfigError: it cannot be created.
    """
    folder = evaluation_folder(output_dir)
    try:
        make_folder(folder)
    except CheckpointError as error:
        raise ConfigError(str(error)) from error
    return folder


@contextmanager
def exit_when_interrupted(args: argparse.Namespace) -> Iterator[None]:
    """Put the job back into SLURM's queue after SIGUSR1, if ``--requeue`` asks for it."""
    try:
        yield
    except TrainingInterrupted as end:
        if args.requeue and end.signum == signal.SIGUSR1:
            done = not comm.is_main_process() or requeue_job()
            sys.exit(exit_code(end.signum, requeued=done))
        raise
