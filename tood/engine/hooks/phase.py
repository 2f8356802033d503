"""Switches the training phase."""

import logging
from typing import Any

from detectron2.engine import HookBase

from ...modeling.dense_detector import DenseDetectorCore, find_dense_core

logger = logging.getLogger(__name__)


class PhaseHook(HookBase):
    """Switches the model from the ATSS warm-up phase to the aligned phase.

    Before each step it sets the phase that ``trainer.iter`` has. The phase is therefore right after
    a resume in either phase, under DistributedDataParallel and in every process. Writes the scalar
    ``phase_aligned``, 0 or 1, to the event storage.

    A checkpoint keeps the iteration of the switch, because another batch or more images would move
    it, and an aligned model must not fall back to the warm-up phase.

    Args:
        warmup_iters: the first iteration of the aligned phase; see
            `tood.engine.epochs_to_iters`.
        warmup_epochs: the setting that ``warmup_iters`` was computed from
            (``MODEL.TOOD.WARMUP.EPOCHS``); a resume compares it.
    """

    def __init__(self, warmup_iters: int, warmup_epochs: float | None = None) -> None:
        self.warmup_iters = warmup_iters
        self.warmup_epochs = warmup_epochs

    def state_dict(self) -> dict[str, Any]:
        """Return when the phase switches."""
        return {"warmup_iters": self.warmup_iters, "warmup_epochs": self.warmup_epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the iteration of the switch from a checkpoint.

        A new ``MODEL.TOOD.WARMUP.EPOCHS`` counts as long as the checkpoint is in the warm-up phase.
        """
        saved = state_dict["warmup_iters"]
        if saved == self.warmup_iters:
            return
        was_aligned = self.trainer.iter + 1 >= saved
        if not was_aligned and state_dict.get("warmup_epochs") != self.warmup_epochs:
            logger.warning(
                "MODEL.TOOD.WARMUP.EPOCHS is %s, the checkpoint was trained with %s: the aligned "
                "phase begins at iteration %d instead of %d.",
                self.warmup_epochs,
                state_dict.get("warmup_epochs"),
                max(self.warmup_iters, self.trainer.iter + 1),
                saved,
            )
            return
        logger.warning(
            "The aligned phase %s iteration %d, as in the checkpoint. With the batch, the training "
            "set and MODEL.TOOD.WARMUP.EPOCHS of now it would be %d.",
            "began at" if was_aligned else "begins at",
            saved,
            self.warmup_iters,
        )
        self.warmup_iters = saved

    def phase_at(self, iteration: int) -> str:
        """Return the phase of an iteration, counted from 0: ``"warmup"`` or ``"aligned"``."""
        return "warmup" if iteration < self.warmup_iters else "aligned"

    def before_train(self) -> None:
        """Log when the phase switches, and warn if it never does."""
        start, end = self.trainer.start_iter, self.trainer.max_iter
        if start > 0:  # an evaluation may be caught up before the first step
            self._core().set_phase(self.phase_at(start - 1))
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
                "SOLVER.MAX_ITER or EPOCHS.",
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
