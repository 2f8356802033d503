"""Switches the training phase."""

import logging

from detectron2.engine import HookBase

from ...modeling.dense_detector import DenseDetectorCore, find_dense_core

logger = logging.getLogger(__name__)


class PhaseHook(HookBase):
    """Switches the model from the ATSS warm-up phase to the aligned phase.

    The hook has no state: before each step it sets the phase that ``trainer.iter`` has. The phase
    is therefore right after a resume in either phase, under DistributedDataParallel and in every
    process. Writes the scalar ``phase_aligned``, 0 or 1, to the event storage.

    Args:
        warmup_iters: the first iteration of the aligned phase; see
            `tood.engine.epochs_to_iters`.
    """

    def __init__(self, warmup_iters: int) -> None:
        self.warmup_iters = warmup_iters

    def phase_at(self, iteration: int) -> str:
        """Return the phase of an iteration, counted from 0: ``"warmup"`` or ``"aligned"``."""
        return "warmup" if iteration < self.warmup_iters else "aligned"

    def before_train(self) -> None:
        """Log when the phase switches, and warn if it never does."""
        start, end = self.trainer.start_iter, self.trainer.max_iter
        if self.warmup_iters <= 0:
            logger.info("No ATSS warm-up phase: the aligned phase from the first iteration on.")
        elif self.phase_at(start) == "aligned":
            logger.info("Resumed in the aligned phase, which began at %d.", self.warmup_iters)
        elif self.warmup_iters < end:
            logger.info(
                "ATSS warm-up phase until iteration %d of %d, then the aligned phase.",
                self.warmup_iters,
                end,
            )
        else:
            logger.warning(
                "Training ends in the ATSS warm-up phase, which takes %d iterations of these %d: "
                "it never reaches the aligned phase. Lower MODEL.TOOD.WARMUP.EPOCHS or raise "
                "SOLVER.MAX_ITER.",
                self.warmup_iters,
                end,
            )

    def before_step(self) -> None:
        """Set the phase of the coming step."""
        iteration = self.trainer.iter
        core, phase = self._core(), self.phase_at(iteration)
        if phase == "aligned" and core.phase != phase:
            logger.info("Iteration %d: the aligned phase begins.", iteration)
        core.set_phase(phase)
        self.trainer.storage.put_scalar(
            "phase_aligned", float(phase == "aligned"), smoothing_hint=False
        )

    def _core(self) -> DenseDetectorCore:
        model = self.trainer.model
        core = find_dense_core(model)
        if core is None:
            raise TypeError(
                f"PhaseHook needs a model with a DenseDetectorCore, not {type(model).__name__}"
            )
        return core
