"""Objects of a video, followed from frame to frame: ByteTrack of the package trackers."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from .detections import Detections
from .missing_packages import import_optional

# Objects that score this much more than the threshold start a track. Weaker ones continue one.
_MARGIN = 0.1


class Tracker:
    """Numbers the objects of one video, in all its frames.

    Args:
        score_threshold: that detections are found with.
        rate: frames per second.

    Raises:
        ImportError: the package trackers is not installed.
    """

    def __init__(self, score_threshold: float, rate: Fraction) -> None:
        trackers = require_trackers()
        self._supervision = import_optional("supervision", "--track", "trackers")
        start = min(score_threshold + _MARGIN, 1.0)
        self._tracker = trackers.ByteTrackTracker(
            frame_rate=float(rate), track_activation_threshold=start, high_conf_det_threshold=start
        )

    def update(self, found: Detections) -> Detections:
        """Number the objects of the next frame.

        Returns:
            The same detections with ``tracker_id``, -1 for objects that are not followed yet.
        """
        numbers = np.full(len(found), -1, np.int64)
        given = self._supervision.Detections(
            xyxy=found.xyxy.copy(),
            confidence=found.confidence.copy(),
            class_id=found.class_id.copy(),
            data={"row": np.arange(len(found))},
        )
        tracked = self._tracker.update(given)
        if len(tracked):
            numbers[tracked.data["row"]] = tracked.tracker_id
        return replace(found, tracker_id=numbers)


def require_trackers() -> Any:
    """The package trackers.

    Raises:
        ImportError: it is not installed.
    """
    return import_optional("trackers", "--track", '"tood-detectron2[track]"')
