"""Event writers for the terminal and log.txt."""

import logging
from collections.abc import MutableMapping
from typing import Any

from detectron2.utils.events import CommonMetricPrinter, EventWriter, get_event_storage

logger = logging.getLogger(__name__)


def latest_scalars() -> dict[str, float]:
    """Return the latest value of every scalar in the current event storage."""
    return {name: value for name, (value, _) in get_event_storage().latest().items()}


class PhaseMetricPrinter(CommonMetricPrinter):
    """detectron2's line of losses, with the training phase at its end.

    Args:
        max_iter: the number of iterations, for the remaining time.
    """

    def __init__(self, max_iter: int | None = None) -> None:
        super().__init__(max_iter)
        # detectron2 formats and logs the line in one method; the logger is the only way in.
        self.logger: logging.LoggerAdapter = _PhaseAdapter(
            logging.getLogger("detectron2.utils.events"), {}
        )


class _PhaseAdapter(logging.LoggerAdapter):
    def process(
        self, msg: str, kwargs: MutableMapping[str, Any]
    ) -> tuple[str, MutableMapping[str, Any]]:
        """Append the phase to a message."""
        aligned = latest_scalars().get("phase_aligned")
        if aligned is None:  # a detector without phases
            return msg, kwargs
        return f"{msg.rstrip()}  phase: {'aligned' if aligned else 'warmup'}", kwargs


class AssignmentPrinter(EventWriter):
    """Logs assignment statistics by object size.

    Args:
        period: how often, in calls of `write`. detectron2 calls it every 20 iterations.
    """

    def __init__(self, period: int = 5) -> None:
        self.period = period
        self.calls = 0

    def write(self) -> None:
        """Log one line every ``period`` calls, if there are statistics."""
        self.calls += 1
        latest = latest_scalars()
        if self.calls % self.period or "assign/pos_per_gt" not in latest:
            return
        logger.info(
            "Positives per GT box: %s; GT boxes without positives: %s",
            _by_size(latest, "pos_per_gt", ".1f"),
            _by_size(latest, "gt_without_pos_frac", ".1%"),
        )


def _by_size(latest: dict[str, float], name: str, form: str) -> str:
    """Format a statistic over all GT boxes, and by their size where that is known."""
    sizes = [
        f"{size} {latest[f'assign/{name}_{size}']:{form}}"
        for size in ("small", "medium", "large")
        if f"assign/{name}_{size}" in latest
    ]
    return f"{latest[f'assign/{name}']:{form}} ({', '.join(sizes)})"
