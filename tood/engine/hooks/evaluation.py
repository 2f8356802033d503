"""Evaluates during training, and makes up for an evaluation that was cut off."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from detectron2.engine.hooks import EvalHook
from detectron2.utils import comm

from ..signals import StopRequest, TrainingInterrupted

logger = logging.getLogger(__name__)


class ResumableEvalHook(EvalHook):
    """detectron2's hook for evaluation, which a checkpoint written right before it remembers.

    Args:
        eval_period: iterations between evaluations; 0 for one at the end alone.
        eval_function: evaluates, and returns the results.
        stop: says whether this process was asked to stop. A process that trains alone then ends its
            evaluation before the next image. Several finish it: they cannot agree in the middle.
    """

    def __init__(
        self,
        eval_period: int,
        eval_function: Callable[[], dict[str, Any]],
        stop: StopRequest | None = None,
    ) -> None:
        super().__init__(eval_period, eval_function)
        self._stop = stop
        self._must_catch_up = False

    def _is_due(self) -> bool:
        done = self.trainer.iter + 1
        return bool(self._period > 0 and done % self._period == 0 and done != self.trainer.max_iter)

    def state_dict(self) -> dict[str, Any]:
        """Return whether an evaluation follows the iteration of this checkpoint."""
        return {"is_due": self._is_due()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._must_catch_up = state_dict["is_due"]

    def catch_up(self) -> None:
        """Run the evaluation that the resumed checkpoint was written before, if there is one."""
        if self._must_catch_up and self._period > 0:
            self._must_catch_up = False
            logger.info("Evaluating: the run ended before this evaluation was finished.")
            self._do_eval()

    def after_train(self) -> None:
        """Run the last evaluation, unless the last iteration has failed or was interrupted."""
        if self.trainer.iter >= self.trainer.max_iter:
            self._do_eval()
        del self._func  # as detectron2 does: it refers to the trainer

    def _do_eval(self) -> None:
        with self._stop_before_next_image():
            super()._do_eval()

    @contextmanager
    def _stop_before_next_image(self) -> Iterator[None]:
        """Nothing is lost: a checkpoint was written before the evaluation, which a resume runs."""
        stop = self._stop
        if stop is None or comm.get_world_size() > 1:
            yield
            return

        def interrupt(*_: Any) -> None:
            """Stop before the model sees another image."""
            if stop.signum is not None:
                interruption = TrainingInterrupted(stop.signum)
                logger.warning(
                    "Stopped by %s during an evaluation. The checkpoint was written before it; "
                    "continue with --resume.",
                    interruption.signal_name,
                )
                raise interruption

        handle = self.trainer.model.register_forward_pre_hook(interrupt)
        try:
            yield
        finally:
            handle.remove()
