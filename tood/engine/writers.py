"""Event writers for the terminal, log.txt and metrics.json."""

import itertools
import json
import logging
from pathlib import Path

import torch
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
    get_event_storage,
)

from ..checkpoint.saving import write_text

logger = logging.getLogger(__name__)

# Columns of the terminal's line after "[11/26 15:05:50 tood]: ", and what separates its parts.
_WIDTH, _GAP = 160 - 23, "  "
# Iterations that the terminal's numbers are medians and means of, as detectron2's.
WINDOW = 20


def latest_scalars() -> dict[str, float]:
    """Return the latest value of every scalar in the current event storage."""
    return {name: value for name, (value, _) in get_event_storage().latest().items()}


class ProgressPrinter(CommonMetricPrinter):
    """Logs where the training is, in a line of at most 160 columns, the time in front included.

    Of more losses than fit, as of a two-stage model, the smallest are left out and counted. It has
    the iteration, the remaining time, medians of the losses over 20 iterations, means of the speed
    and of the time that data is waited for, the learning rate, a GPU's peak memory, and the phase
    of a detector that has phases.

    Args:
        max_iter: the number of iterations.
        images_per_batch: over all processes.
    """

    def __init__(self, max_iter: int, images_per_batch: int) -> None:
        super().__init__(max_iter)
        self.max_iter, self.images_per_batch = max_iter, images_per_batch
        self.logger = logging.getLogger("tood")  # a short name, in front of each line

    def write(self) -> None:
        """Log the line; not after the last iteration, when detectron2 calls it once more."""
        storage = get_event_storage()
        if storage.iter == self.max_iter:
            return
        scalars = latest_scalars()
        start, end = [f"iter {storage.iter}", self._remaining()], []
        if "time" in scalars:  # not in the first iterations
            seconds = storage.history("time").avg(WINDOW)
            end.append(f"{self.images_per_batch / max(seconds, 1e-9):.3g} img/s")
        if "data_time" in scalars:
            end.append(f"data {storage.history('data_time').avg(WINDOW):.2f} s")
        if "lr" in scalars:
            end.append(f"lr {scalars['lr']:.3g}")
        if torch.cuda.is_available():
            end.append(f"{torch.cuda.max_memory_allocated() / 2**30:.1f}G")
        if "phase_aligned" in scalars:
            end.append("aligned" if scalars["phase_aligned"] else "warmup")
        taken = sum(len(part) + len(_GAP) for part in [*start, *end])
        line = [*start, self._losses(_WIDTH - taken), *end]
        self.logger.info(_GAP.join(part for part in line if part))

    def _remaining(self) -> str:
        """Without seconds, where it is days."""
        eta = self._get_eta(get_event_storage())
        if not eta:
            return ""
        return f"eta {eta.rpartition(':')[0] if 'day' in eta else eta}"

    def _losses(self, width: int) -> str:
        """The total, and in parentheses what it is the sum of, as far as there is room."""
        histories = get_event_storage().histories()
        if "total_loss" not in histories:
            return ""
        losses = {
            name.removeprefix("loss_"): history.median(WINDOW)
            for name, history in histories.items()
            if name.startswith("loss")
        }
        total = f"loss {histories['total_loss'].median(WINDOW):.3g}"
        left_out = 0
        while losses:
            terms = [f"{name} {value:.3g}" for name, value in losses.items()]
            more = [f"{left_out} more"] if left_out else []
            text = f"{total} ({', '.join([*terms, *more])})"
            if len(text) <= width:
                return text
            del losses[min(losses, key=lambda name: losses[name])]
            left_out += 1
        return total


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
