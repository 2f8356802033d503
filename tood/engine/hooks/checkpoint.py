"""Saves checkpoints, and stops the training when it is asked to."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm

from ...checkpoint.resuming import read_last_checkpoint
from ...errors import DataError
from ..signals import STOP_SIGNALS, StopRequest, TrainingInterrupted
from ..step_sums import StepSums

logger = logging.getLogger(__name__)

# Checkpoints that the period did not ask for replace each other, except for the last ones: should
# the newest be damaged, one is left.
NUM_ROLLING = 2


class CheckpointHook(HookBase):
    """Saves a checkpoint every period, before evaluations, by time, on a signal, and at the end.

    Runs in every process, because a checkpoint has the random states of all of them. What only one
    process knows (a signal, the clock, unreadable images) is added up over all processes, so that
    they decide together. With several processes the sums arrive one iteration later.

    Checkpoints of the period stay, as with detectron2, or the last ``keep`` of them. Of the others
    the last two are kept. A checkpoint names the files that are removed after it, so that a run
    that is killed in between removes them when it is resumed.

    Args:
        save: called in every process with the name of a checkpoint; returns its path.
        stop: says whether this process was asked to stop.
        period: iterations between the checkpoints that stay (``SOLVER.CHECKPOINT_PERIOD``).
        eval_period: iterations between evaluations (``TEST.EVAL_PERIOD``); 0 for none.
        keep: how many checkpoints of the period stay (``SOLVER.CHECKPOINT_KEEP``); 0 for all.
        folder: of the checkpoints; None keeps all.
        minutes: the longest time between two checkpoints; 0 for no limit.
        bad_images: returns the names of the unreadable images that this process met.
        max_bad_images: how many are allowed in all processes together.
    """

    def __init__(
        self,
        save: Callable[[str], Path | None],
        stop: StopRequest,
        *,
        period: int,
        eval_period: int = 0,
        keep: int = 0,
        folder: Path | None = None,
        minutes: float = 0,
        bad_images: Callable[[], Sequence[str]] = tuple,
        max_bad_images: int = 0,
    ) -> None:
        self._save = save
        self._stop = stop
        self._period = period
        self._eval_period = eval_period
        self._keep = keep
        self._folder = folder
        self._minutes = minutes
        self._bad_images = bad_images
        self._max_bad_images = max_bad_images
        self._periodic: list[str] = []
        self._rolling: list[str] = []
        self._outdated: list[str] = []
        self._known_bad_images: set[str] = set()  # of all processes
        self._sums = StepSums(len(STOP_SIGNALS) + 2)
        self._last_save = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Return the names of the checkpoints that may be removed later, and of those to remove."""
        return {
            "rolling": list(self._rolling),
            "periodic": list(self._periodic),
            "outdated": list(self._outdated),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; earlier versions had less."""
        self._rolling = list(state_dict["rolling"])
        self._periodic = list(state_dict.get("periodic", []))
        self._outdated = list(state_dict.get("outdated", []))

    def before_train(self) -> None:
        """Start the clock, and remove what a killed run has left."""
        self._remove_outdated()
        self._last_save = time.monotonic()

    def after_step(self) -> None:
        """Save a checkpoint if one is due.

        Raises:
            TrainingInterrupted: a signal asked to stop; the checkpoint is written.
            DataError: the processes together met too many unreadable images.
        """
        signum, is_late, num_bad = self._agree()
        if num_bad:
            self._require_few_bad_images()
        done = self.trainer.iter + 1
        name = f"model_{self.trainer.iter:07d}"
        if done >= self.trainer.max_iter:
            self._save_as("model_final")
        elif self._period > 0 and done % self._period == 0:
            self._save_periodic(name)
        elif is_late or signum or (self._eval_period > 0 and done % self._eval_period == 0):
            self._save_rolling(name)
        if signum:
            self._interrupt(signum)

    def after_train(self) -> None:
        """Wait for the last sums, unless a process has failed."""
        if self.trainer.iter >= self.trainer.max_iter:
            self._sums.close()

    def _agree(self) -> tuple[int, bool, int]:
        """Return the signal that asks to stop or 0, whether it is time, and new bad images."""
        late = 0 < self._minutes <= (time.monotonic() - self._last_save) / 60
        is_late = late and comm.is_main_process()
        own = [int(self._stop.signum == signum) for signum in STOP_SIGNALS]
        *signals, late_sum, num_bad = self._sums.exchange(
            [*own, int(is_late), len(set(self._bad_images()) - self._known_bad_images)]
        )
        asked = [signum for signum, count in zip(STOP_SIGNALS, signals, strict=True) if count]
        return int(asked[0]) if asked else 0, bool(late_sum), num_bad

    def _require_few_bad_images(self) -> None:
        """Count every file once, whichever processes met it; called where there is a new one."""
        names = sorted(
            {name for part in comm.all_gather(list(self._bad_images())) for name in part}
        )
        self._known_bad_images.update(names)
        if len(names) > self._max_bad_images:
            raise DataError(
                f"{len(names)} training images are unreadable, for example {names[0]}: more than "
                f"DATALOADER.MAX_BAD_IMAGES {self._max_bad_images}. Replace them, or raise it. The "
                "log names each."
            )
        if comm.get_world_size() > 1:  # the log of another process may be the only one to say so
            logger.warning(
                "%d unreadable training images are skipped (at most %d), for example %s. The "
                "log.txt of the process that met it says why.",
                len(names),
                self._max_bad_images,
                names[0],
            )

    def _save_as(self, name: str) -> None:
        self._save(name)
        self._last_save = time.monotonic()

    def _save_periodic(self, name: str) -> None:
        self._periodic, self._outdated = _append(self._periodic, name, self._keep)
        self._save_as(name)
        self._remove_outdated()

    def _save_rolling(self, name: str) -> None:
        self._rolling, self._outdated = _append(self._rolling, name, NUM_ROLLING)
        self._save_as(name)
        self._remove_outdated()

    def _remove_outdated(self) -> None:
        outdated, self._outdated = self._outdated, []
        if not outdated or self._folder is None or not comm.is_main_process():
            return
        in_use = read_last_checkpoint(self._folder)
        for name in set(outdated) - {*self._periodic, *self._rolling}:
            path = self._folder / f"{name}.pth"
            if path == in_use:
                continue
            try:
                path.unlink(missing_ok=True)
            except OSError as error:  # it only costs space
                logger.warning("The old checkpoint %s cannot be removed: %s.", path, error.strerror)

    def _interrupt(self, signum: int) -> None:
        comm.synchronize()  # nobody leaves while the main process is writing
        interruption = TrainingInterrupted(signum)
        logger.warning(
            "Stopped by %s after iteration %d. The checkpoint is written; continue with --resume.",
            interruption.signal_name,
            self.trainer.iter,
        )
        raise interruption


def _append(names: list[str], name: str, keep: int) -> tuple[list[str], list[str]]:
    """Add a name; return the last ``keep`` names, or all if that is 0, and the ones before."""
    names = [*(x for x in names if x != name), name]
    return (names[-keep:], names[:-keep]) if keep else (names, [])
