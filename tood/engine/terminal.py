"""What a run prints: everything goes to log.txt, the essential lines also to the terminal."""

import logging
import sys

from detectron2.config import CfgNode
from detectron2.utils.logger import setup_logger

from .schedule import iters_to_epochs

# Loggers whose messages describe the setup: environment, command line, config; datasets. A second
# run in the same process sees the latter abbreviated, because detectron2's formatter edits records.
_SETUP_LOGGER = "detectron2"
_DATA_LOGGERS = ("detectron2.data.", "d2.data.")
# Loggers with tables that belong on the terminal: results.
_RESULT_LOGGERS = ("detectron2.evaluation.", "d2.evaluation.")


def setup_loggers(output_dir: str, rank: int = 0) -> None:
    """Set up the loggers of tood, detectron2 and fvcore for a run.

    All messages go to ``log.txt`` in the output folder. The terminal leaves out detectron2's setup
    details: environment, full config, printed model, dataset tables (about 700 lines).

    Call it right before detectron2's ``default_setup``, which then finds its loggers set up.

    Args:
        output_dir: ``cfg.OUTPUT_DIR``.
        rank: of this process. Only rank 0 prints to the terminal; others write log.txt.rank*.
    """
    setup_logger(output_dir, distributed_rank=rank, name="tood")
    setup_logger(output_dir, distributed_rank=rank, name="tood_runtime")
    # Called exactly as default_setup calls it: detectron2 caches by arguments, and would otherwise
    # add its handlers a second time.
    loggers = [
        setup_logger(output_dir, distributed_rank=rank, name="fvcore"),
        setup_logger(output_dir, distributed_rank=rank),
    ]
    for logger in loggers:
        for handler in logger.handlers:
            if getattr(handler, "stream", None) is sys.stdout:
                handler.addFilter(is_essential)
    for name in ("tood", "tood_runtime", "fvcore", "detectron2"):
        for handler in logging.getLogger(name).handlers:
            if getattr(handler, "stream", None) is not sys.stdout:
                handler.handleError = _LogFileProblem(output_dir)  # type: ignore[method-assign]


class _LogFileProblem:
    """Says once that log.txt cannot be written, instead of a stack trace for each of its lines.

    Args:
        output_dir: the folder of the file.
    """

    def __init__(self, output_dir: str) -> None:
        self._output_dir = output_dir
        self._is_known = False

    def __call__(self, record: logging.LogRecord) -> None:
        """Called by the handler of the file, while the error is handled."""
        if not self._is_known and sys.stderr is not None:
            self._is_known = True
            error = sys.exc_info()[1]
            print(
                f"WARNING: lines are missing in {self._output_dir}/log.txt: {error}.",
                file=sys.stderr,
            )


def is_essential(record: logging.LogRecord) -> bool:
    """Whether a message of detectron2 or fvcore belongs on the terminal; a logging filter.

    Warnings do, and so do results and single lines about the training itself.
    """
    if record.levelno >= logging.WARNING or record.name.startswith(_RESULT_LOGGERS):
        return True
    if record.name == _SETUP_LOGGER or record.name.startswith(_DATA_LOGGERS):
        return False
    return "\n" not in record.getMessage()


def describe_training(
    cfg: CfgNode,
    *,
    num_images: int,
    num_classes: int | None,
    start_iter: int,
    max_iter: int,
    world_size: int,
) -> str:
    """Describe a training in a few lines, for the terminal.

    Args:
        cfg: the config, rescaled for the number of processes.
        num_images: training images after filtering.
        num_classes: of the model; None if unknown.
        start_iter: the first iteration.
        max_iter: the iteration after the last one.
        world_size: number of processes.
    """
    batch = cfg.SOLVER.IMS_PER_BATCH
    # Epochs of the schedule may be longer: they end with a whole batch.
    epochs = cfg.SOLVER.EPOCHS or iters_to_epochs(max_iter, num_images, batch)
    classes = "" if num_classes is None else f", {num_classes} classes"
    per_process = f" ({batch // world_size} on each of {world_size} GPUs)" if world_size > 1 else ""
    parts = f" in {cfg.SOLVER.ACCUMULATE} parts" if cfg.SOLVER.ACCUMULATE > 1 else ""
    resumed = f", resumed at {start_iter}" if start_iter > 0 else ""
    checkpoints = _how_often(cfg.SOLVER.CHECKPOINT_PERIOD, max_iter)
    evaluation = f"evaluation {_how_often(cfg.TEST.EVAL_PERIOD, max_iter)}"
    if not cfg.DATASETS.TEST:
        evaluation = "no evaluation"
    return "\n".join(
        [
            f"Training on {num_images} images after filtering{classes}",
            f"  Length: {max_iter} iterations, {epochs:.1f} epochs{resumed}",
            f"  Batch: {batch} images{per_process}{parts}, learning rate {cfg.SOLVER.BASE_LR:g}",
            f"  Output: {cfg.OUTPUT_DIR} (details in log.txt); "
            f"checkpoint {checkpoints}, {evaluation}",
        ]
    )


def _how_often(period: int, max_iter: int) -> str:
    return f"every {period} iterations" if 0 < period < max_iter else "at the end"
