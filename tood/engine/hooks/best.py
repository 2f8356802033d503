"""Keeps the best checkpoint, and knows when evaluations have stopped improving."""

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.evaluation.testing import flatten_results_dict

from ...checkpoint.resuming import BEST_CHECKPOINT, has_best_checkpoint
from ...compat import compute_on_main_process
from ...evaluation.loss_evaluator import is_validation_loss

logger = logging.getLogger(__name__)


class BestCheckpointHook(HookBase):
    """Saves a checkpoint whenever an evaluation is the best so far, and counts the others.

    `update` is called after each evaluation, in every process. Only the main process has results,
    so it decides for all of them. An evaluation without the metric, or in which it is not finite,
    does not count: the history stays as it is, and the first one is announced.

    Args:
        save: called in every process to save the best checkpoint.
        metric: its name, as in ``metrics.json`` (``TEST.BEST_METRIC``).
        patience: how many evaluations without improvement end the training; 0 for no limit
            (``TEST.PATIENCE``).
        has_best: says in the main process whether the best checkpoint of the run is still there.
    """

    def __init__(
        self,
        save: Callable[[], object],
        metric: str,
        patience: int = 0,
        has_best: Callable[[], bool] = lambda: True,
    ) -> None:
        self.metric = metric
        self.patience = patience
        self.best_value: float | None = None
        self.best_iteration = -1
        self.num_worse = 0  # evaluations since the best one
        self._save = save
        self._has_best = has_best
        self._was_announced = False

    @property
    def is_over(self) -> bool:
        """Whether the last PATIENCE evaluations were worse, so that the training is to end."""
        return 0 < self.patience <= self.num_worse

    def describe(self) -> str:
        """Say why the training ends, for the log."""
        best = "" if self.best_value is None else f", {self.best_value:.4g},"
        return (
            f"{self.metric} has not improved in {self.num_worse} evaluations (TEST.PATIENCE "
            f"{self.patience}); the best{best} was after iteration {self.best_iteration}"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the history in plain types."""
        return {
            "metric": self.metric,
            "best_value": self.best_value,
            "best_iteration": self.best_iteration,
            "num_worse": self.num_worse,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the history of `state_dict`, if it is one of the same metric."""
        if state_dict["metric"] != self.metric:
            logger.warning(
                "TEST.BEST_METRIC is %s, but the best checkpoint was chosen by %s until now: the "
                "next evaluation counts as the best so far.",
                self.metric,
                state_dict["metric"],
            )
            return
        self.best_value = state_dict["best_value"]
        self.best_iteration = state_dict["best_iteration"]
        self.num_worse = state_dict["num_worse"]

    def before_train(self) -> None:
        """Forget the best value if its checkpoint is gone: a worse one is better than none."""
        if self.best_value is None or compute_on_main_process(self._has_best):
            return
        logger.warning(
            "The best checkpoint of the run, after iteration %d with %s %g, is missing or damaged: "
            "the next evaluation counts as the best so far.",
            self.best_iteration,
            self.metric,
            self.best_value,
        )
        self.best_value = None

    def update(self, results: Mapping[str, Any], iteration: int) -> None:
        """Take an evaluation into account; save a checkpoint if it is the best so far.

        Args:
            results: of the evaluation, nested dicts of numbers by name; they are read in the main
                process.
            iteration: the last finished one.
        """
        value = compute_on_main_process(lambda: self._find_value(results, iteration))
        if value is None:
            return
        if self.best_value is not None and not self._is_better(value, self.best_value):
            self.num_worse += 1
            return
        self.best_value, self.best_iteration, self.num_worse = value, iteration, 0
        self._save()

    def _is_better(self, value: float, other: float) -> bool:
        """Whether a value is better; a loss is where it is lower."""
        return value < other if is_validation_loss(self.metric) else value > other

    def _find_value(self, results: Mapping[str, Any], iteration: int) -> float | None:
        """The metric of an evaluation; None, which is announced once, where there is none."""
        flat = flatten_results_dict(results)
        value = float(flat.get(self.metric, math.nan))
        if math.isfinite(value):
            return value
        if not self._was_announced:
            self._was_announced = True
            if self.metric in flat:
                logger.warning(
                    "%s (TEST.BEST_METRIC) is %g after iteration %d: there is no ground truth for "
                    "it, or there are no detections. Such evaluations count neither for the best "
                    "checkpoint nor for TEST.PATIENCE.",
                    self.metric,
                    value,
                    iteration,
                )
            else:
                logger.warning(
                    "TEST.BEST_METRIC is %r, which the evaluation does not have, so no best "
                    "checkpoint is saved. Available: %s.",
                    self.metric,
                    ", ".join(flat) or "nothing",
                )
        return None


def build_best_hook(
    cfg: CfgNode, save_checkpoint: Callable[..., object], run_id: str | None
) -> BestCheckpointHook | None:
    """Build the hook of a config; None without a test set or ``TEST.BEST_METRIC``.

    Args:
        cfg: the config.
        save_checkpoint: that of the trainer.
        run_id: of the run.
    """
    if not cfg.DATASETS.TEST or not cfg.TEST.BEST_METRIC:
        return None
    name = BEST_CHECKPOINT.removesuffix(".pth")
    return BestCheckpointHook(
        lambda: save_checkpoint(name, tag=False),
        cfg.TEST.BEST_METRIC,
        cfg.TEST.PATIENCE,
        has_best=lambda: has_best_checkpoint(cfg.OUTPUT_DIR, run_id),
    )
