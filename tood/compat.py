"""Where detectron2 0.4 and its current main differ: this is the one place that says so."""

import detectron2.utils.events as events


def has_event_storage() -> bool:
    """Whether the caller runs inside an ``EventStorage`` (detectron2 0.4 has no such function)."""
    return len(events._CURRENT_STORAGE_STACK) > 0


def has_compiled_coco_eval() -> bool:
    """Whether detectron2's C++ COCO evaluation is there.

    Without it, main falls back to pycocotools by itself, and 0.4 fails when evaluation ends.
    """
    try:
        from detectron2 import _C
    except ImportError:
        return False
    return str(getattr(_C, "__file__", "")).endswith((".so", ".pyd"))
