"""Event writers for the terminal, log.txt and metrics.json."""

import itertools
import json
import logging
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from detectron2.utils.events import (
    CommonMetricPrinter,
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
    get_event_storage,
)

from ..checkpoint.saving import write_text

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


class MetricsWriter(JSONWriter):
    """detectron2's ``metrics.json``, one JSON object per line, that a resume continues exactly.

    A new run sets an old file aside, and so does one whose iterations were rescaled. Another
    resumed one removes the lines that the run wrote after its checkpoint, and a line that was cut
    off. The line of the checkpoint's own iteration goes too: it may lack an evaluation, and is
    written again.

    Args:
        path: of the file.
        start_iter: the first iteration of this training; 0 for a new run.
        is_rescaled: the iterations in the file have another number of images.
    """

    def __init__(self, path: str | Path, start_iter: int = 0, *, is_rescaled: bool = False) -> None:
        path = Path(path)
        last = -1
        if path.is_file() and path.stat().st_size:
            if start_iter == 0 or is_rescaled:
                set_aside(path)
            else:
                last = _remove_lines_from(path, start_iter - 1)
        super().__init__(str(path))
        self._last_write = last


class ResumableTensorboardWriter(TensorboardXWriter):
    """detectron2's writer for TensorBoard, which hides what a run wrote after its checkpoint.

    Args:
        log_dir: folder of the event files.
        start_iter: the first iteration of this training; 0 for a new run.
        is_rescaled: the iterations in the files have another number of images; nothing is hidden.
    """

    def __init__(self, log_dir: str, start_iter: int = 0, *, is_rescaled: bool = False) -> None:
        first = max(start_iter - 1, 0)
        super().__init__(log_dir, purge_step=None if is_rescaled else first)
        self._last_write = first - 1


def set_aside(path: Path) -> Path:
    """Rename a file to the first free name: ``metrics.1.json``."""
    numbers = itertools.count(1)
    target = next(
        name
        for name in (path.with_name(f"{path.stem}.{i}{path.suffix}") for i in numbers)
        if not name.exists()
    )
    path.rename(target)
    logger.info("%s does not belong to this training. It is now %s.", path, target.name)
    return target


def _remove_lines_from(path: Path, start_iter: int) -> int:
    """Keep the lines before an iteration; return the last iteration that is left, or -1."""
    kept, last = [], -1
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            iteration = int(json.loads(line)["iteration"])
        except (ValueError, TypeError, KeyError):
            continue  # cut off when the run was killed
        if iteration < start_iter:
            kept.append(line + "\n")
            last = max(last, iteration)
    write_text(path, "".join(kept))
    return last
