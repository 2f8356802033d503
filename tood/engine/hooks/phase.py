"""Training hooks."""

import logging

from detectron2.engine import HookBase
from torch import nn

logger = logging.getLogger(__name__)


class PhaseHook(HookBase):
    """Switches the model from its warm-up to task alignment learning.

    The phase follows from ``trainer.iter`` alone, anew at every step, and nothing is stored: it is
    right after a resume in either phase, under DistributedDataParallel and in every process.
    Writes the scalar ``phase_aligned``, 0 or 1, to the event storage.

    Args:
        warmup_iters: the first iteration of the aligned phase; see :func:`epochs_to_iters`.
    """

    def __init__(self, warmup_iters: int) -> None:
        self.warmup_iters = warmup_iters

    def phase_at(self, iteration: int) -> str:
        """The phase of an iteration, counted from 0."""
        return "warmup" if iteration < self.warmup_iters else "aligned"

    def before_train(self) -> None:
        """Say when the switch comes."""
        if self.phase_at(self.trainer.start_iter) == "aligned":
            logger.info("No warm-up: the aligned phase from the first iteration on.")
        else:
            logger.info(
                "Warm-up phase until iteration %d of %d, task alignment learning from there on.",
                self.warmup_iters,
                self.trainer.max_iter,
            )
            if self.warmup_iters >= self.trainer.max_iter:
                logger.warning(
                    "Training ends before the warm-up phase does, so it never reaches task "
                    "alignment learning: lower MODEL.TOOD.WARMUP.EPOCHS or raise SOLVER.MAX_ITER."
                )

    def before_step(self) -> None:
        """Set the phase of the step to come."""
        model: nn.Module = self.trainer.model
        model = getattr(model, "module", model)  # DistributedDataParallel
        phase = self.phase_at(self.trainer.iter)
        if phase == "aligned" and model.phase != phase:
            logger.info("Iteration %d: task alignment learning.", self.trainer.iter)
        model.set_phase(phase)
        self.trainer.storage.put_scalar("phase_aligned", float(phase == "aligned"), False)
