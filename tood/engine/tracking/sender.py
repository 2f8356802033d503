"""Sends metrics to a tracker in a thread, and keeps what cannot be sent."""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Sequence

from ...errors import ConfigError
from .base import RejectedError, Tracker
from .metrics_file import Line
from .record import SentRecord
from .secrets import safe_message

logger = logging.getLogger(__name__)

# Seconds until an unreachable service is tried again.
RETRY_SECONDS = 30.0
# Seconds that the end of a training waits for a service.
CLOSE_SECONDS = 60.0


class Sender:
    """Sends lines of metrics in order. The training neither waits for it nor fails with it.

    Lines that cannot be sent wait for the next attempt. ``metrics.json`` has them too, where a
    resumed training finds them.

    Args:
        tracker: the service.
        record: what it has already.
        retry_seconds: see `RETRY_SECONDS`.
    """

    def __init__(
        self, tracker: Tracker, record: SentRecord, retry_seconds: float = RETRY_SECONDS
    ) -> None:
        self._tracker, self._record = tracker, record
        self._retry_seconds = retry_seconds
        self._next_attempt = 0.0
        self._pending: deque[Line] = deque()
        self._has_started = False
        self._is_down = False
        self._was_announced = False
        self._has_rejected = False
        # A list of lines, or how the run has ended.
        self._queue: queue.SimpleQueue[Sequence[Line] | str] = queue.SimpleQueue()
        name = f"tracker-{tracker.label}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the run if that is quick, otherwise in the thread.

        Raises:
            ConfigError: what the environment says cannot work.
        """
        if self._tracker.is_local:
            try:
                self._start_run()
            except ConfigError:
                raise
            except Exception as error:
                self._report(error)
        self._thread.start()

    def send(self, lines: Sequence[Line]) -> None:
        """Send lines when it is their turn."""
        if lines:
            self._queue.put(lines)

    def close(self, status: str, seconds: float = CLOSE_SECONDS) -> None:
        """Send what is left and end the run; wait for it, but not forever."""
        if not self._thread.is_alive():
            return
        self._queue.put(status)
        self._thread.join(seconds)
        if self._thread.is_alive():
            logger.warning(
                "%s has not answered for %g seconds and may not have all metrics. %s",
                *(self._tracker.label, seconds, _REPAIR),
            )

    def _start_run(self) -> None:
        earlier = self._record.run_id
        run_id = self._tracker.start(earlier)
        self._record.start(run_id, self._tracker.known_iteration)
        self._has_started = True

    def _run(self) -> None:
        while True:
            try:
                item = self._queue.get(timeout=self._retry_seconds if self._pending else None)
            except queue.Empty:
                item = ()
            if isinstance(item, str):
                self._finish(item)
                return
            self._pending.extend(item)
            if time.monotonic() >= self._next_attempt:
                self._send_pending()

    def _send_pending(self) -> None:
        try:
            if not self._has_started:
                self._start_run()
            while self._pending:
                self._send_line(*self._pending[0])
                self._pending.popleft()
        except Exception as error:
            self._report(error)
            self._next_attempt = time.monotonic() + self._retry_seconds
            return
        if self._is_down:
            self._is_down = False
            logger.info("%s is reached again, and has all metrics.", self._tracker.label)

    def _send_line(self, iteration: int, metrics: dict[str, float]) -> None:
        unsent = self._record.unsent(iteration, metrics)
        if not unsent:
            return
        try:
            self._tracker.log(iteration, unsent)
        except RejectedError as error:
            if not self._has_rejected:
                self._has_rejected = True
                logger.warning(
                    "%s rejects the metrics of iteration %d, which are left out there: %s",
                    *(self._tracker.label, iteration, _one_line(error)),
                )
        self._record.add(iteration, unsent)
        if not self._tracker.is_buffered:
            self._record.save()

    def _report(self, error: Exception) -> None:
        """Say once that the service cannot be used."""
        self._is_down = True
        if self._was_announced:
            logger.debug("%s: %s", self._tracker.label, _one_line(error))
            return
        self._was_announced = True
        logger.warning(
            "%s cannot be reached: %s. Training goes on; metrics are sent when it answers again.",
            *(self._tracker.label, _one_line(error)),
        )

    def _finish(self, status: str) -> None:
        self._send_pending()
        if self._pending or not self._has_started:
            logger.warning(
                "%s lacks the last %d lines of metrics.json. %s",
                *(self._tracker.label, len(self._pending), _REPAIR),
            )
        if not self._has_started:
            return
        try:
            self._tracker.finish(status)
            self._record.save()
        except Exception as error:
            self._report(error)


_REPAIR = "metrics.json has them, and tood train --resume sends what is missing."


def _one_line(error: Exception) -> str:
    text = safe_message(error)
    return text if len(text) <= 300 else f"{text[:300]}..."
