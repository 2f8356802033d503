"""demo/detect_on_ray.py on a local Ray: the rows of tood detect-dataset."""

import importlib.util
import os
import subprocess
import sys

import pytest
from PIL import Image

from tests.helpers import ROOT
from tood_runtime.dataset import BatchDetector, arrow_schema, to_table

pq = pytest.importorskip("pyarrow.parquet")

# Of this clone, and of the detectron2 that the tests run with.
PYTHONPATH = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray[data]")


@pytest.fixture
def images(image, tmp_path):
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for index in range(9):
        part = image[: 120 - index % 2 * 40, index * 3 :]
        Image.fromarray(part).save(folder / ("sub" if index % 3 else ".") / f"{index}.png")
    (folder / "broken.PNG").write_bytes(b"no image")
    (folder / "notes.md").write_text("not an image")
    return folder


def run_demo(*arguments, cwd):
    """Two actors of half a core: the machine may have one only."""
    command = [sys.executable, str(ROOT / "demo/detect_on_ray.py"), *map(str, arguments)]
    command += ["--num-workers", "2", "--num-cpus", "0.5", "--rows-per-call", "3"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": PYTHONPATH}
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=cwd)


@pytest.mark.slow
@needs_ray
def test_rows(cfg, detector, images, tmp_path):
    """From pyarrow's local file system to fsspec's; a second run adds no rows to the first."""
    (tmp_path / "config.yaml").write_text(cfg.dump())
    output = tmp_path / "out"
    arguments = [tmp_path / "config.yaml", images.as_uri(), f"local://{output}"]
    done = run_demo(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    table = pq.read_table(output)
    assert table.schema.equals(arrow_schema())
    paths = sorted(map(str, images.rglob("*.[pP][nN][gG]")))
    expected = to_table(BatchDetector(detector)({"path": paths})).to_pylist()
    rows = sorted(table.to_pylist(), key=lambda row: row["path"])
    assert [row["path"] for row in rows] == paths and len(rows) == 10
    for row, other in zip(rows, expected, strict=True):
        error, expected_error = row.pop("error"), other.pop("error")
        assert row == other
        assert (error is None) == (expected_error is None)
    assert sum(len(row["class_id"] or ()) for row in rows) > 0
    again = run_demo(*arguments, cwd=tmp_path)
    assert again.returncode == 2 and "is not empty. Choose another OUTPUT" in again.stderr
    assert len(pq.read_table(output)) == 10
