"""Reads ``metrics.json`` for the curves of the report."""

import json
import math
import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..config.validation.rules import is_number
from ..data.formats.json_file import printable
from ..errors import DataError
from ..evaluation.loss_evaluator import is_validation_loss

Floats = npt.NDArray[np.float64]

PHASE_KEY = "phase_aligned"


@dataclass(frozen=True)
class MetricsLog:
    """Scalars of a training by iteration.

    Attributes:
        scalars: for each name, its iterations and values, (n,) each, by rising iteration.
    """

    scalars: dict[str, tuple[Floats, Floats]]

    def __bool__(self) -> bool:
        return bool(self.scalars)

    def curve(self, name: str) -> tuple[Floats, Floats]:
        """Iterations and values of a scalar; empty if there is none."""
        empty = np.zeros(0)
        return self.scalars.get(name, (empty, empty))

    def names(self, ending: str) -> list[str]:
        """The scalars whose name is ``ending``, or ends with it after a slash or "raw_"."""
        ends = (f"/{ending}", f"raw_{ending}")
        return [name for name in self.scalars if name == ending or name.endswith(ends)]

    def last_values(self) -> dict[str, float]:
        """The last value of each scalar."""
        return {name: float(values[-1]) for name, (_, values) in self.scalars.items()}

    @property
    def last_iteration(self) -> int:
        """The last iteration of any scalar; -1 without any."""
        return max((int(x[-1]) for x, _ in self.scalars.values()), default=-1)

    @property
    def phase_switch(self) -> tuple[int, int] | None:
        """The first and the last iteration that can be the first of the aligned phase.

        Only every 20th iteration is logged. None if no switch was logged.
        """
        iterations, values = self.curve(PHASE_KEY)
        aligned = np.flatnonzero(values > 0)
        if not len(aligned) or not aligned[0]:
            return None
        first = int(aligned[0])
        return int(iterations[first - 1]) + 1, int(iterations[first])

    @property
    def phase(self) -> str:
        """The phase of the last iteration, "warmup" or "aligned"; empty if unknown."""
        _, values = self.curve(PHASE_KEY)
        return ("aligned" if values[-1] > 0 else "warmup") if len(values) else ""

    def best(self, metric: str) -> tuple[int, float] | None:
        """Iteration and value of the best evaluation; losses are best where they are lowest."""
        iterations, values = self.curve(metric)
        finite = np.isfinite(values)
        if not finite.any():
            return None
        choose = np.argmin if is_validation_loss(metric) else np.argmax
        index = int(choose(values[finite]))
        return int(iterations[finite][index]), float(values[finite][index])


def read_metrics(path: str | os.PathLike[str]) -> MetricsLog:
    """Read a file of JSON lines, as detectron2 writes it.

    Lines of a run that was killed may be cut off, and a resumed one may repeat iterations: the last
    value of a scalar at an iteration counts.

    Raises:
        DataError: the file cannot be read, or no line of it is of this kind.
    """
    shown = printable(os.fspath(path), 300)
    values: dict[str, dict[int, float]] = {}
    num_lines = 0
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                num_lines += bool(line.strip())
                _add_numbers(values, *(parse_line(line) or (0, {})))
    except OSError as error:
        raise DataError(f"The metrics {shown} cannot be read: {error.strerror}.") from error
    if num_lines and not values:
        raise DataError(
            f'{shown} is no metrics.json: no line of it is a JSON object with an "iteration".'
        )
    scalars = {}
    for name, column in values.items():
        iterations = np.array(sorted(column), np.float64)
        scalars[name] = (iterations, np.array([column[int(i)] for i in iterations], np.float64))
    return MetricsLog(scalars)


def parse_line(line: str | bytes) -> tuple[int, dict[str, float]] | None:
    """The iteration and the numbers of a line; None if it was cut off when the run was killed."""
    try:
        entry = json.loads(line)
        iteration = int(entry.pop("iteration"))
        numbers = {name: float(x) for name, x in entry.items() if is_number(x)}
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None
    return iteration, numbers


def _add_numbers(
    values: dict[str, dict[int, float]], iteration: int, numbers: dict[str, float]
) -> None:
    for name, value in numbers.items():
        values.setdefault(name, {})[iteration] = value if math.isfinite(value) else math.nan
