"""A run without the package that writes Parquet."""

import json
import sys

import pytest

from tests.runtime.dataset.fake import detect_all
from tood_runtime.missing_packages import MissingPackageError


def test_coco_needs_no_pyarrow(images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    summary = detect_all(tmp_path / "coco", [images], format="coco")
    assert (summary.images, summary.errors) == (31, 1)
    shards = sorted((tmp_path / "coco" / "shards").glob("shard-*"))
    rows = [json.loads(line) for shard in shards for line in shard.read_text().splitlines()]
    assert len(shards) == 4 and len(rows) == 31 + 4  # each shard begins with a line about itself
    with pytest.raises(MissingPackageError, match="pyarrow"):
        detect_all(tmp_path / "parquet", [images])
