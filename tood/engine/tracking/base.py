"""What a tracker is to the rest of this package."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

# How a run has ended.
FINISHED, FAILED, KILLED = "finished", "failed", "killed"


class RejectedError(Exception):
    """The tracker does not take these metrics, however often they are sent."""


@dataclass(frozen=True)
class RunDescription:
    """What a tracker is told about a training when its run starts.

    Attributes:
        folder: ``OUTPUT_DIR``.
        project: the W&B project, or the MLflow experiment.
        name: of the run.
        tags: of the run.
        config: plain values by the full names of the keys, without secrets.
        versions: by package.
    """

    folder: Path
    project: str
    name: str
    tags: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


class Tracker(ABC):
    """One service. All methods but the constructor may fail as the network does.

    The attributes are right after `start`.

    Args:
        description: of the training.

    Raises:
        ConfigError: the package is missing, or what the environment says cannot work.
    """

    label: ClassVar[str]  # for people
    is_local = True  # whether `start` is quick, so that its errors are shown before training
    is_buffered = False  # whether what was logged may be lost with the process, until `finish`
    known_iteration: int | None = None  # the last one that a continued run has, if it says so

    def __init__(self, description: RunDescription) -> None:
        self.description = description

    @abstractmethod
    def start(self, run_id: str | None) -> str:
        """Start a run, or continue the one with this id. Return its id.

        Raises:
            ConfigError: what the environment says cannot work.
        """

    @abstractmethod
    def log(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Send the metrics of an iteration.

        Raises:
            RejectedError: the service does not take them, whatever is tried.
        """

    @abstractmethod
    def finish(self, status: str) -> None:
        """End the run with `FINISHED`, `FAILED` or `KILLED`."""
