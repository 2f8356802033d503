"""What a tracker has got, in a file of the output folder."""

import json
import logging
from collections.abc import Iterable
from pathlib import Path

from ...checkpoint.saving import write_text
from ...errors import CheckpointError

logger = logging.getLogger(__name__)


class SentRecord:
    """Which run of a tracker belongs to a training, and up to which iteration it has the metrics.

    It is written after each iteration that was sent. A process that is killed in between sends one
    iteration again; none is missing.

    Args:
        path: of the file.
        training: the id of the training; None if it has none.
        resumed: whether the training goes on. Otherwise, and if the file is of another training, a
            new run starts.

    Attributes:
        run_id: of the tracker's run; None before it has started.
        iteration: the last one that was sent; -1 for none.
    """

    def __init__(self, path: Path, training: str | None, *, resumed: bool) -> None:
        self._path, self._training = path, training
        self.run_id: str | None = None
        self.iteration = -1
        self._names: set[str] = set()
        if resumed:
            self._read()

    def _read(self) -> None:
        try:
            values = json.loads(self._path.read_text(encoding="utf-8"))
            if values["training"] == self._training:
                self.iteration, self._names = int(values["iteration"]), set(values["names"])
                self.run_id = str(values["run_id"])
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, KeyError):
            logger.warning("%s is damaged: a new run starts in the tracker.", self._path)

    def unsent(self, iteration: int, metrics: dict[str, float]) -> dict[str, float]:
        """Return those metrics of an iteration that were not sent."""
        if iteration < self.iteration:
            return {}
        names = self._names if iteration == self.iteration else set()
        return {name: value for name, value in metrics.items() if name not in names}

    def start(self, run_id: str, known_iteration: int | None = None) -> None:
        """Remember the run; another than before has nothing yet.

        Args:
            run_id: of the tracker's run.
            known_iteration: the last one that the run has, if it says so. It may be less than what
                was sent before the process was killed.
        """
        if run_id != self.run_id:
            self.run_id, self.iteration, self._names = run_id, -1, set()
        elif known_iteration is not None and known_iteration < self.iteration:
            self.iteration, self._names = known_iteration + 1, set()
        self.save()

    def add(self, iteration: int, names: Iterable[str]) -> None:
        """Take down what was sent, until `save` writes it."""
        if iteration != self.iteration:
            self.iteration, self._names = iteration, set()
        self._names |= set(names)

    def save(self) -> None:
        """Write the file."""
        values = {
            "run_id": self.run_id,
            "training": self._training,
            "iteration": self.iteration,
            "names": sorted(self._names),
        }
        try:
            self._path.parent.mkdir(exist_ok=True)
            write_text(self._path, json.dumps(values) + "\n")
        except (OSError, CheckpointError) as error:  # the training itself notices a full disk
            logger.debug("%s", error)
