"""The recent scalars of detectron2's event storage, in plain types for a checkpoint.

With them the first lines after a resume are the lines of the uninterrupted run: a line holds the
median of the last 20 iterations.
"""

from typing import Any

from detectron2.utils.events import EventStorage

# Not restored: clocks, which detectron2 does not read in the first iterations of a run.
_CLOCKS = ("time", "data_time", "rank_data_time", "eta_seconds")

# Iterations that detectron2's writers smooth over.
WINDOW_SIZE = 20


def get_event_state(storage: EventStorage) -> dict[str, Any]:
    """Return the recent values of every scalar, each with its iteration."""
    hints = storage.smoothing_hints()
    return {
        name: {
            "values": [
                [float(value), int(iteration)]
                for value, iteration in history.values()[-WINDOW_SIZE:]
            ],
            "smoothing_hint": bool(hints[name]),
        }
        for name, history in storage.histories().items()
        if name not in _CLOCKS and history.values()
    }


def set_event_state(storage: EventStorage, state: dict[str, Any]) -> None:
    """Put the scalars of `get_event_state` into a storage; its iteration stays."""
    current = storage.iter
    for name, scalar in state.items():
        for value, iteration in scalar["values"]:
            storage.iter = iteration
            storage.put_scalar(name, value, smoothing_hint=scalar["smoothing_hint"])
    storage.iter = current
