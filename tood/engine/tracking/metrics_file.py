"""Reads ``metrics.json`` while it grows."""

from pathlib import Path

from ...report.metrics import parse_line

Line = tuple[int, dict[str, float]]


class MetricsReader:
    """Returns the lines that are new since the last call, by iteration.

    The trackers follow the file, so that they have the same names and values, and so that a resumed
    run finds there what an earlier one could not send.

    Args:
        path: of ``metrics.json``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0

    def read(self) -> list[Line]:
        """Return the new lines; a line that is not complete yet comes with the next call."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                data = file.read()
        except FileNotFoundError:
            return []
        complete = data[: data.rfind(b"\n") + 1]
        self._position += len(complete)
        lines = [line for text in complete.splitlines() if (line := parse_line(text)) is not None]
        # detectron2 writes an evaluation between two lines after the second one.
        return sorted(lines, key=lambda line: line[0])
