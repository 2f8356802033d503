"""What restarts do, and which are refused."""

import json
import shutil

import pytest

from tests.runtime.dataset.fake import FakeDetector, detect_all
from tood_runtime.dataset import shards as shard_files
from tood_runtime.dataset.finishing import Summary
from tood_runtime.dataset.manifest import Manifest
from tood_runtime.dataset.run import read_result
from tood_runtime.dataset.shards import ShardFiles
from tood_runtime.output_files import OutputError

pytest.importorskip("pyarrow")


def shards(folder):
    return sorted((folder / "shards").glob("shard-*"))


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in shards(folder)}


@pytest.mark.parametrize("file_format", ["parquet", "coco"])
def test_a_restart_does_what_is_missing(images, tmp_path, file_format):
    """Nothing, if nothing is; a missing shard and a missing summary are made again, equal."""
    first = detect_all(tmp_path, [images], format=file_format)
    before = stamps(tmp_path)
    detector = FakeDetector()
    assert detect_all(tmp_path, [images], detector, format=file_format) == first
    assert stamps(tmp_path) == before and not detector.batch_sizes
    content = shards(tmp_path)[1].read_bytes()
    shards(tmp_path)[1].unlink()
    again = detect_all(tmp_path, [images], detector, format=file_format)
    assert sum(detector.batch_sizes) == 8
    assert shards(tmp_path)[1].read_bytes() == content
    assert again.by_class == first.by_class
    assert len([name for name, stamp in stamps(tmp_path).items() if before[name] != stamp]) == 1
    (tmp_path / "summary.json").unlink()
    assert detect_all(tmp_path, [images], detector, format=file_format) == again
    assert sum(detector.batch_sizes) == 8


def test_coco_files_are_written_again_if_one_is_missing(images, tmp_path):
    detect_all(tmp_path, [images], format="coco")
    text = (tmp_path / "detections.json").read_text()
    (tmp_path / "detections.json").unlink()
    assert read_result(tmp_path) is None
    detect_all(tmp_path, [images], format="coco")
    assert (tmp_path / "detections.json").read_text() == text


DAMAGES = {
    "truncated": lambda data, other: data[: len(data) // 2],
    "a bit": lambda data, other: data[:100] + bytes([data[100] ^ 1]) + data[101:],
    "empty": lambda data, other: b"",
    "another shard": lambda data, other: other,
}


@pytest.mark.parametrize("file_format", ["parquet", "coco"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_shard_is_done_again(images, tmp_path, caplog, file_format, damage):
    first = detect_all(tmp_path, [images], format=file_format)
    path = shards(tmp_path)[2]
    content = path.read_bytes()
    path.write_bytes(damage(content, shards(tmp_path)[0].read_bytes()))
    detector = FakeDetector()
    again = detect_all(tmp_path, [images], detector, format=file_format)
    assert f"{path.name} is damaged" in caplog.text
    assert path.read_bytes() == content and sum(detector.batch_sizes) == 8
    assert (again.images, again.by_class) == (first.images, first.by_class)


def test_a_disk_that_damages_everything_ends_the_run(images, tmp_path, monkeypatch):
    monkeypatch.setattr(shard_files, "write_file", lambda path, data: path.write_bytes(data[:50]))
    with pytest.raises(OutputError, match="damaged again and again"):
        detect_all(tmp_path, [images / "image0001.png"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": {"score_threshold": 0.5}}, "score_threshold: 0.3 there, 0.5"),
        (
            {"options": {"classes": ["bee"]}},
            "classes: None there, bee here",
        ),
        ({"shard_size": 9}, "--shard-size .8 there, 9 here"),
        ({"format": "coco"}, "--format .parquet there, coco here"),
        ({"model": {"weights": "2" * 64, "config": "1" * 64}}, "weights: 000000000000 there, 2222"),
        ({"class_names": ["ant", "bee", "dog"]}, "class names .ant, bee, cat there"),
    ],
)
def test_other_settings_are_refused(images, tmp_path, change, message):
    detect_all(tmp_path, [images])
    before = stamps(tmp_path)
    with pytest.raises(OutputError, match=f"other settings: .*{message}.*another --output"):
        detect_all(tmp_path, [images], **change)
    with pytest.raises(OutputError, match="other settings: sources"):
        detect_all(tmp_path, [images, images / "broken.jpg"])
    assert stamps(tmp_path) == before


def test_another_batch_size_or_version_is_said(images, tmp_path, caplog):
    detect_all(tmp_path, [images])
    detect_all(tmp_path, [images], batch_size=8, software={"tood": "2"})
    assert "other --batch-size (4 there, 8 here)" in caplog.text
    assert "other versions (tood: 1 there, 2 here)" in caplog.text


def test_new_images_in_the_folder_are_refused(write_images, tmp_path):
    folder = write_images(tmp_path / "images", 5)
    detect_all(tmp_path / "out", [folder])
    shutil.copy(folder / "image0001.png", folder / "new.png")
    (folder / "image0002.png").unlink()
    with pytest.raises(OutputError, match=r"1 added \(such as .*new.png\), 1 removed.*--as-listed"):
        detect_all(tmp_path / "out", [folder])
    shards(tmp_path / "out")[0].unlink()
    summary = detect_all(tmp_path / "out", [folder], prepare={"check_images": False})
    assert (summary.images, summary.errors) == (5, 1)  # the one that was removed


def test_other_ids_are_refused(images, tmp_path):
    source = tmp_path / "val.json"
    out = tmp_path / "out"
    for image_id in (1, 2):
        source.write_text(json.dumps([{"id": image_id, "file_name": "image0001.png"}]))
        if image_id == 1:
            detect_all(out, [source], image_folder=str(images))
    with pytest.raises(OutputError, match="the same files, but in another order or with other ids"):
        detect_all(out, [source], image_folder=str(images))


def test_shards_without_a_manifest_are_refused(images, tmp_path):
    detect_all(tmp_path, [images])
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(OutputError, match="has shards, but their manifest is missing"):
        detect_all(tmp_path, [images])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}', '{"version": 99}'])
def test_a_damaged_manifest_is_refused(images, tmp_path, text):
    detect_all(tmp_path, [images])
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(OutputError, match=r"manifest\.json (is damaged|was written by another)"):
        detect_all(tmp_path, [images])


def test_a_changed_list_is_refused(images, tmp_path):
    detect_all(tmp_path, [images])
    shards(tmp_path)[0].unlink()
    (path,) = tmp_path.glob("images-*.jsonl")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(OutputError, match="list of images .* (damaged|was changed)"):
        detect_all(tmp_path, [images], prepare={"check_images": False})


def test_manifest_and_list_are_small(images, tmp_path):
    """Each process reads a shard of the list only."""
    detect_all(tmp_path, [images])
    manifest = Manifest.read(tmp_path)
    records = manifest.images.read_shard(tmp_path, 3, "/elsewhere")
    assert len(records) == 7 and records[0].image_id == 25
    assert manifest.images.offsets[-1] == (tmp_path / manifest.images.file).stat().st_size
    files = ShardFiles(tmp_path, manifest)
    assert Summary.read(tmp_path, files) == read_result(tmp_path) is not None
