"""Evaluates during training, and makes up for an evaluation that was cut off."""

import logging
from typing import Any

from detectron2.engine.hooks import EvalHook

logger = logging.getLogger(__name__)


class ResumableEvalHook(EvalHook):
    """detectron2's hook for evaluation, which a checkpoint written right before it remembers.

    The arguments are those of ``EvalHook``.
    """

    _must_catch_up = False

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
