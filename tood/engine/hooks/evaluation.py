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
        after_evaluation: called in every process with the results, which only the main process has,
            and the last finished iteration.
    """

    def __init__(
        self,
        eval_period: int,
        eval_function: Callable[[], dict[str, Any]],
        stop: StopRequest | None = None,
        after_evaluation: Callable[[dict[str, Any], int], None] | None = None,
    ) -> None:
        self._results: dict[str, Any] = {}

        def evaluate() -> dict[str, Any]:
            self._results = eval_function()
            return self._results

        super().__init__(eval_period, evaluate)
        self._stop = stop
        self._after_evaluation = after_evaluation
        self._evaluated = -1  # the iteration after which the last evaluation was
        self._must_catch_up = False

    def _is_due(self) -> bool:
        done = self.trainer.iter + 1
        return bool(
            self._period > 0
            and done % self._period == 0
            and done != self.trainer.max_iter
            and self._evaluated != self.trainer.iter
        )

    def state_dict(self) -> dict[str, Any]:
        """Return whether an evaluation follows the iteration of this checkpoint."""
        return {"is_due": self._is_due(), "evaluated": self._evaluated}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; earlier versions had less."""
        self._must_catch_up = state_dict["is_due"]
        self._evaluated = state_dict.get("evaluated", -1)

    def catch_up(self) -> None:
        """Run the evaluation that the resumed checkpoint was written before, if there is one."""
        if self._must_catch_up and self._period > 0:
            self._must_catch_up = False
            logger.info("Evaluating: the run ended before this evaluation was finished.")
            self._evaluate_after(self.trainer.start_iter - 1)

    def after_step(self) -> None:
        """Run the evaluation if it is due; the last one is in `after_train`."""
        if self._is_due():
            self._evaluate_after(self.trainer.iter)

    def after_train(self) -> None:
        """Run the last evaluation, unless the last iteration has failed or was interrupted."""
        last = self.trainer.max_iter - 1
        if self.trainer.iter > last and self._evaluated != last:
            self._evaluate_after(last)
        del self._func  # as detectron2 does: it refers to the trainer

    def _evaluate_after(self, iteration: int) -> None:
        with self._stop_before_next_image():
            self._do_eval()
        self._evaluated = iteration
        if self._after_evaluation is not None:
            self._after_evaluation(self._results, iteration)

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
