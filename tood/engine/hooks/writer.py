"""Writes metrics without doubled or missing iterations, however often a run was resumed."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from detectron2.engine.hooks import PeriodicWriter

from ...checkpoint.saving import os_error_reason
from ...errors import ConfigError

logger = logging.getLogger(__name__)


class ResumableWriterHook(PeriodicWriter):
    """detectron2's hook for writers, which it builds when the first iteration is known.

    Args:
        period: iterations between two lines.
    """

    def __init__(self, period: int = 20) -> None:
        super().__init__([], period)

    def before_train(self) -> None:
        """Build the writers of the trainer."""
        with self._one_sentence():
            self._writers = self.trainer.build_writers()

    def catch_up(self) -> None:
        """Write the line of the iteration before the first one, if it was due."""
        if self.trainer.start_iter > 0 and self.trainer.start_iter % self._period == 0:
            with self._one_sentence():
                for writer in self._writers:
                    writer.write()

    def after_step(self) -> None:
        """Write the metrics if they are due.

        Raises:
            ConfigError: they cannot be written; the message says why.
        """
        with self._one_sentence():
            super().after_step()

    def after_train(self) -> None:
        """Write what is left. A run that has failed keeps its own error."""
        if self.trainer.iter >= self.trainer.max_iter:
            with self._one_sentence():
                super().after_train()
            return
        for writer in self._writers:
            try:
                writer.write()
                writer.close()
            except Exception as error:  # the same one again, or detectron2's of a second line
                logger.warning("The last metrics are not in every file: %s", error)

    @contextmanager
    def _one_sentence(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigError(
                f"The metrics in {self.trainer.cfg.OUTPUT_DIR} cannot be written: "
                f"{os_error_reason(error)}. Continue with --resume."
            ) from error
