"""Ends a training whose evaluations do not get better any more."""

import logging
from collections.abc import Callable
from typing import NoReturn

from detectron2.engine import HookBase

from .best import BestCheckpointHook

logger = logging.getLogger(__name__)


class StoppedEarly(BaseException):
    """Leaves detectron2's loop, which would log an Exception as an error."""


class PatienceHook(HookBase):
    """Ends the training as a finished one when the patience is over, in all processes.

    It has to be the last hook: the others have done their part of the iteration. A resumed run that
    has ended ends again, unless the config has more patience now.

    Args:
        best: counts the evaluations without improvement.
        save: called in every process with the name of a checkpoint.
    """

    def __init__(self, best: BestCheckpointHook, save: Callable[[str], object]) -> None:
        self._best = best
        self._save = save

    def before_train(self) -> None:
        """End a run that has ended before.

        Raises:
            StoppedEarly: it has.
        """
        last = self.trainer.start_iter - 1
        if self._best.is_over and last + 1 < self.trainer.max_iter:
            logger.warning(
                "This run has stopped after iteration %d: %s. To go on, resume it with a larger "
                "TEST.PATIENCE, or 0.",
                last,
                self._best.describe(),
            )
            self._end_after(last)

    def catch_up(self) -> None:
        """End the training if the evaluation that was caught up has decided it.

        Raises:
            StoppedEarly: it has.
        """
        self._stop_if_over(self.trainer.start_iter - 1)

    def after_step(self) -> None:
        """End the training if the evaluation after this iteration has decided it.

        Raises:
            StoppedEarly: it has; the last checkpoint is written.
        """
        self._stop_if_over(self.trainer.iter)

    def _stop_if_over(self, iteration: int) -> None:
        if not self._best.is_over:
            return
        logger.warning("Stopping after iteration %d: %s.", iteration, self._best.describe())
        self._save("model_final")
        self._end_after(iteration)

    def _end_after(self, iteration: int) -> NoReturn:
        # Other hooks see by these that nothing has failed, and finish their work.
        self.trainer.iter = self.trainer.max_iter = iteration + 1
        raise StoppedEarly
