"""metrics.json of a run that is stopped, killed and resumed."""

import json
from pathlib import Path

from detectron2.utils.events import EventStorage

from tests.engine.helpers import read_metrics
from tood.engine.writers import MetricsWriter


def write(path: Path, start: int, end: int, results: dict[int, float] | None = None) -> None:
    """Train from ``start`` to ``end``: a line every 5 iterations, and what is left at the end."""
    writer = MetricsWriter(path, start)
    with EventStorage(start) as storage:
        for storage.iter in range(start, end):
            storage.put_scalar("loss", storage.iter)
            if storage.iter in (results or {}):
                storage.put_scalar("bbox/AP", results[storage.iter], smoothing_hint=False)
            if storage.iter % 5 == 4:
                writer.write()
        writer.write()
        writer.close()


def test_lines_after_the_checkpoint_are_written_again(tmp_path):
    """A run of 20 iterations is killed in line 17 and resumed at 10."""
    path = tmp_path / "metrics.json"
    write(path, 0, 18)
    path.write_text(path.read_text() + '{"iteration": 1')
    assert [row["iteration"] for row in read_metrics_of_whole_lines(path)] == [4, 9, 14, 17]
    write(path, 10, 20)
    # That of iteration 9 comes from the scalars in the checkpoint, which this test has not.
    assert [row["iteration"] for row in read_metrics(tmp_path)] == [4, 14, 19]


def read_metrics_of_whole_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()[:-1]]


def test_scalars_of_a_kept_line_are_not_written_twice(tmp_path):
    path = tmp_path / "metrics.json"
    write(path, 0, 10, {7: 50.0})
    writer = MetricsWriter(path, 11)
    with EventStorage(11) as storage:
        storage.iter = 7
        storage.put_scalar("bbox/AP", 50.0, smoothing_hint=False)
        storage.iter = 14
        storage.put_scalar("loss", 1.0)
        writer.write()
    rows = read_metrics(tmp_path)
    assert sorted(row["iteration"] for row in rows) == [4, 7, 9, 14]
    assert sum("bbox/AP" in row for row in rows) == 1


def test_rescaled_iterations_start_a_new_file(tmp_path):
    """Iteration 10 of 20 becomes 5 of 10; the lines of the first half are not lost."""
    path = tmp_path / "metrics.json"
    write(path, 0, 10)
    MetricsWriter(path, 5, is_rescaled=True)
    assert read_metrics(tmp_path) == []
    lines = (tmp_path / "metrics.1.json").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [4, 9]


def test_new_run_sets_the_old_file_aside(tmp_path):
    path = tmp_path / "metrics.json"
    for _ in range(3):
        write(path, 0, 5)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "metrics.1.json",
        "metrics.2.json",
        "metrics.json",
    ]
    assert [row["iteration"] for row in read_metrics(tmp_path)] == [4]
