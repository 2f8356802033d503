"""Passes the metrics of a training to the trackers."""

from collections.abc import Callable, Sequence
from pathlib import Path

from detectron2.engine import HookBase

from ..signals import stop_request
from .base import FAILED, FINISHED, KILLED
from .metrics_file import MetricsReader
from .sender import Sender

SenderBuilder = Callable[[bool], Sender]


class TrackingHook(HookBase):
    """Sends what the hook before it has written into ``metrics.json``.

    Only the main process has it, after `ResumableWriterHook`.

    Args:
        builders: each builds a sender, given whether the training continues a run.
        metrics_file: the path of ``metrics.json``.
        period: iterations between two looks at the file.
    """

    def __init__(
        self, builders: Sequence[SenderBuilder], metrics_file: Path, period: int = 20
    ) -> None:
        self._builders = builders
        self._metrics_file = metrics_file
        self._period = period
        self._senders: list[Sender] = []
        self._reader = MetricsReader(metrics_file)

    def before_train(self) -> None:
        """Start the runs, or continue them; send what they lack.

        Raises:
            ConfigError: a tracker cannot be used as the environment says.
        """
        # Where iterations were rescaled, those of the old run have another meaning.
        resumed = self.trainer.start_iter > 0 and self.trainer.iteration_ratio == 1
        for build in self._builders:
            sender = build(resumed)
            sender.start()
            self._senders.append(sender)
        self._send()

    def after_step(self) -> None:
        """Send new lines now and then."""
        if (self.trainer.iter + 1) % self._period == 0:
            self._send()

    def after_train(self) -> None:
        """Send the last lines and end the runs."""
        self.close(is_finished=self.trainer.iter >= self.trainer.max_iter)

    def close(self, *, is_finished: bool = False) -> None:
        """End the runs, if that is not done; whatever has ended the training."""
        status = FINISHED if is_finished else FAILED if stop_request.signum is None else KILLED
        self._send()
        senders, self._senders = self._senders, []
        for sender in senders:
            sender.close(status)

    def _send(self) -> None:
        lines = self._reader.read() if self._senders else []
        for sender in self._senders:
            sender.send(lines)
