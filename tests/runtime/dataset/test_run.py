"""Runs in a folder: what they write, what they refuse, and what restarts do."""

import json
import logging
import os

import numpy as np
import pytest

from tests.runtime.dataset.fake import FakeDetector, detect_all, settings
from tood_runtime.dataset import COLUMNS, arrow_schema
from tood_runtime.output_files import OutputError

pd = pytest.importorskip("pandas")
pq = pytest.importorskip("pyarrow.parquet")


def shards(folder):
    return sorted((folder / "shards").glob("shard-*"))


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in shards(folder)}


def test_parquet(images, tmp_path):
    """A row per image in the order of the list, which pandas reads as a folder."""
    summary = detect_all(tmp_path / "out", [images])
    assert (summary.images, summary.errors) == (31, 1)
    assert len(shards(tmp_path / "out")) == 4  # of 8 images
    table = pq.read_table(tmp_path / "out" / "shards")
    assert table.schema.equals(arrow_schema())
    frame = pd.read_parquet(tmp_path / "out" / "shards")
    assert list(frame.columns) == list(COLUMNS) and len(frame) == 31
    assert frame.image_id.tolist() == list(range(1, 32))
    good = frame[frame.error.isna()]
    for row, expected in zip(
        good.itertuples(), FakeDetector().predict(list(good.path)), strict=True
    ):
        assert (row.height, row.width) == expected.image_size
        corners = np.stack([row.x1, row.y1, row.x2, row.y2], axis=1)
        np.testing.assert_array_equal(corners.reshape(-1, 4), expected.xyxy)
        np.testing.assert_array_equal(row.confidence, expected.confidence)
        assert list(row.class_name) == expected.class_names
    broken = frame[frame.error.notna()]
    assert broken.path.tolist() == [str(images / "broken.jpg")]
    assert summary.detections == good.class_id.map(len).sum()
    flat = good.explode(["class_id", "class_name", "confidence", "x1", "y1", "x2", "y2"])
    assert summary.by_class == flat.class_name.value_counts().to_dict()


def test_coco(images, tmp_path):
    """As Detections.to_coco says it, with the image ids of the source."""
    listed = [{"id": 70 - i, "file_name": f"image{i:04d}.png"} for i in range(20)]
    listed += [{"id": 99, "file_name": "broken.jpg"}, {"id": 3, "file_name": "gone.jpg"}]
    source = tmp_path / "val.json"
    source.write_text(json.dumps({"images": listed}))
    out = tmp_path / "out"
    summary = detect_all(out, [source], format="coco", image_folder=str(images))
    expected = []
    for entry in listed[:20]:
        found = FakeDetector()(str(images / entry["file_name"]))
        expected += found.to_coco(entry["id"], [1, 2, 30])
    assert json.loads((out / "detections.json").read_text()) == expected
    names = json.loads((out / "images.json").read_text())
    assert [image["id"] for image in names] == [70 - i for i in range(20)]
    assert names[0] == {
        **{"id": 70, "file_name": str(images / "image0000.png")},
        **{"height": 40, "width": 30},
    }
    errors = json.loads((out / "errors.json").read_text())
    assert [entry["id"] for entry in errors] == [99, 3]
    assert "it does not exist" in errors[1]["error"]
    assert (summary.images, summary.errors, summary.detections) == (22, 2, len(expected))


def test_no_detections_and_no_errors_are_empty_lists(images, tmp_path):
    detect_all(tmp_path, [images / "image0004.png"], format="coco")
    found = json.loads((tmp_path / "detections.json").read_text())
    assert found == FakeDetector()(str(images / "image0004.png")).to_coco(1, [1, 2, 30])
    assert json.loads((tmp_path / "errors.json").read_text()) == []


def test_shards_do_not_matter(images, tmp_path):
    for size in (1, 7, 100):
        detect_all(tmp_path / str(size), [images], format="coco", shard_size=size)
    for name in ("detections.json", "images.json", "errors.json"):
        first, *others = [
            json.loads((tmp_path / str(size) / name).read_text()) for size in (1, 7, 100)
        ]
        assert first and others == [first, first]


def test_relative_paths_start_where_the_run_was_started(images, tmp_path, monkeypatch):
    """A restart from elsewhere, or a process with another folder, reads the same files."""
    monkeypatch.chdir(images)
    first = detect_all(tmp_path / "out", ["sub folder", "broken.jpg"])
    paths = pd.read_parquet(tmp_path / "out" / "shards").path.tolist()
    assert paths[0] == "sub folder/image0000.png" and first.errors == 1
    shards(tmp_path / "out")[0].unlink()
    started = settings(["sub folder", "broken.jpg"])
    monkeypatch.chdir(tmp_path)
    again = detect_all(
        tmp_path / "out",
        started.sources,
        prepare={"check_images": False},
    )
    assert again.by_class == first.by_class and again.errors == 1


def test_errors_are_tried_again(write_images, tmp_path):
    folder = write_images(tmp_path / "images", 20)
    good = (folder / "image0010.png").read_bytes()
    (folder / "image0010.png").write_bytes(good[:20])
    assert detect_all(tmp_path / "out", [folder]).errors == 1
    (folder / "image0010.png").write_bytes(good)
    assert detect_all(tmp_path / "out", [folder]).errors == 1
    detector = FakeDetector()
    summary = detect_all(tmp_path / "out", [folder], detector, prepare={"retry_errors": True})
    assert summary.errors == 0 and sum(detector.batch_sizes) == 8


def test_what_killed_processes_left_is_removed(images, tmp_path):
    detect_all(tmp_path, [images], format="coco")
    shards(tmp_path)[0].unlink()
    left = [tmp_path / ".detections.json.0123.tood-tmp"]
    left.append(tmp_path / "shards" / ".shard-000000.jsonl.4567.tood-tmp")
    for path in left:
        path.write_bytes(b"half")
    other = tmp_path / ".other.tmp"
    other.touch()
    detect_all(tmp_path, [images], format="coco")
    assert not any(path.exists() for path in left) and other.exists()


def test_a_full_disk(images, tmp_path, monkeypatch):
    """One sentence, no half file; the restart goes on."""
    sync = os.fsync

    def full(descriptor):
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        if "shard-000002" in name:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match=r"shard-000002.parquet: No space left on device\. "):
            detect_all(tmp_path, [images])
    assert len(shards(tmp_path)) == len(list((tmp_path / "shards").iterdir())) == 2
    assert detect_all(tmp_path, [images]).images == 31


def test_a_folder_that_cannot_be_written(images, tmp_path):
    (tmp_path / "shards").write_text("a file")
    with pytest.raises(OutputError, match="Cannot write .*shards: File exists"):
        detect_all(tmp_path, [images])


def test_progress(images, tmp_path, caplog, monkeypatch):
    from tood_runtime.dataset import run as module

    monkeypatch.setattr(module, "_LOG_SECONDS", 0.0)
    with caplog.at_level(logging.INFO):
        detect_all(tmp_path, [images])
    assert "images/s, 31 images in this process; 3 of 4 shards done." in caplog.text
