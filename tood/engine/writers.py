"""Event writers."""

import logging

from detectron2.utils.events import EventWriter, get_event_storage

logger = logging.getLogger(__name__)


class AssignmentPrinter(EventWriter):
    """Logs the health of the assignment beside detectron2's line of losses.

    Args:
        period: in calls, which come every 20 iterations.
    """

    def __init__(self, period: int = 5) -> None:
        self.period, self.calls = period, 0

    def write(self) -> None:
        """Log one line, every ``period`` calls."""
        self.calls += 1
        latest = {key: value for key, (value, _) in get_event_storage().latest().items()}
        if self.calls % self.period or "assign/pos_per_gt" not in latest:
            return

        def line(name: str, form: str) -> str:
            """One statistic, for all ground truths and by size."""
            sizes = [
                f"{size} {latest[f'assign/{name}_{size}']:{form}}"
                for size in ("small", "medium", "large")
                if f"assign/{name}_{size}" in latest
            ]
            return f"{latest[f'assign/{name}']:{form}} ({', '.join(sizes)})"

        logger.info(
            "%s phase: positives per ground truth %s; ground truths without any %s",
            "aligned" if latest.get("phase_aligned") else "warm-up",
            line("pos_per_gt", ".1f"),
            line("gt_without_pos_frac", ".1%"),
        )
