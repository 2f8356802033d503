"""What a model writes to detectron2's event storage while it trains."""

from detectron2.utils import comm
from detectron2.utils.events import EventStorage, get_event_storage

from ..compat import has_event_storage
from .assignment_stats import AssignmentStatistics

# Log assignment statistics every 20 iterations, as detectron2's writers do. Each read synchronizes
# with the GPU.
STATISTICS_PERIOD = 20


def drawing_storage(period: int) -> EventStorage | None:
    """The storage of events in every ``period``-th iteration, from 0 on; else None.

    None in all processes but the main one, because only that writes events.
    """
    if period <= 0 or not has_event_storage() or not comm.is_main_process():
        return None
    storage = get_event_storage()
    return storage if storage.iter % period == 0 else None


def log_statistics(statistics: AssignmentStatistics) -> None:
    """Write what was accumulated in every 20th iteration, and start over."""
    if not has_event_storage():
        return
    storage = get_event_storage()
    if (storage.iter + 1) % STATISTICS_PERIOD == 0:
        for name, value in statistics.compute_and_reset().items():
            storage.put_scalar(f"assign/{name}", value, smoothing_hint=False)
