"""Writes metrics without doubled or missing iterations, however often a run was resumed."""

from detectron2.engine.hooks import PeriodicWriter


class ResumableWriterHook(PeriodicWriter):
    """detectron2's hook for writers, which it builds when the first iteration is known.

    Args:
        period: iterations between two lines.
    """

    def __init__(self, period: int = 20) -> None:
        super().__init__([], period)

    def before_train(self) -> None:
        """Build the writers of the trainer."""
        self._writers = self.trainer.build_writers()

    def catch_up(self) -> None:
        """Write the line of the iteration before the first one, if it was due."""
        if self.trainer.start_iter > 0 and self.trainer.start_iter % self._period == 0:
            for writer in self._writers:
                writer.write()
