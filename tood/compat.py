"""Where detectron2 0.4 and its current main differ: this is the one place that says so."""

import detectron2.utils.events as events


def has_event_storage() -> bool:
    """Whether the caller runs inside an ``EventStorage`` (detectron2 0.4 has no such function)."""
    return len(events._CURRENT_STORAGE_STACK) > 0
