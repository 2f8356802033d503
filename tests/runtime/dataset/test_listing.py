"""Which images the sources of a data set name."""

import json
import logging
import os
import time
import tracemalloc

import pytest

from tood_runtime.dataset.listing import list_images
from tood_runtime.sources import SourceError, collect_images


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_a_folder_gives_what_detect_finds(tmp_path):
    """With subfolders, and in an order that does not depend on the file system."""
    touch(tmp_path, "b.png", "a.JPG", "z/1.webp", "z/y/2.bmp", "c.txt", "d", "e.png.bak")
    listed = list_images([str(tmp_path)])
    assert sorted(listed.paths) == sorted(map(str, collect_images([tmp_path])))
    names = [os.path.relpath(path, tmp_path) for path in listed.paths]
    assert names == ["a.JPG", "b.png", "z/1.webp", "z/y/2.bmp"]
    assert listed.ids == [1, 2, 3, 4]


def test_file_names_that_are_numbers_are_ids(tmp_path):
    touch(tmp_path, "000017.jpg", "x/4.png")
    assert list_images([str(tmp_path)]).ids == [17, 4]


def test_patterns_and_files(tmp_path):
    """Each file once, whatever its name; folders that a pattern matches are searched."""
    touch(tmp_path, "a.jpg", "b.jpg", "noname", "in/c.png", "brackets[1].png")
    sources = ["noname", "*.jpg", "b.jpg", "brackets[1].png", "i*"]
    listed = list_images([str(tmp_path / source) for source in sources])
    names = [os.path.relpath(path, tmp_path) for path in listed.paths]
    assert names == ["noname", "a.jpg", "b.jpg", "brackets[1].png", "in/c.png"]


def test_a_list_file(tmp_path, caplog):
    """CRLF, a byte order mark, blank lines, repetitions, spaces, unicode, missing files."""
    touch(tmp_path, "a b.jpg", "café.png", "sub/ж.png")
    lines = ["a b.jpg", "", "café.png  ", "   ", "./a b.jpg", "missing.jpg", "sub/ж.png"]
    lines.append(str(tmp_path / "café.png"))
    path = tmp_path / "list.TXT"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    listed = list_images([str(path)])
    names = [os.path.relpath(path, tmp_path) for path in listed.paths]
    assert names == ["a b.jpg", "café.png", "missing.jpg", "sub/ж.png"]
    assert "2 of 6 paths name an image again" in caplog.text


def test_paths_of_a_list_start_from_one_folder(tmp_path, monkeypatch):
    """The working folder if the first path that exists is there, else the list's."""
    touch(tmp_path, "here/a.jpg", "list/b.jpg")
    path = tmp_path / "list" / "list.txt"
    monkeypatch.chdir(tmp_path / "here")
    path.write_text("# comment\nx.jpg\na.jpg\nb.jpg\n")
    assert list_images([str(path)]).paths == ["x.jpg", "a.jpg", "b.jpg"]
    path.write_text("x.jpg\nb.jpg\na.jpg\n")
    expected = [str(tmp_path / "list" / name) for name in ("x.jpg", "b.jpg", "a.jpg")]
    assert list_images([str(path)]).paths == expected


def test_names_that_are_not_utf8(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    touch(tmp_path, name)
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.jpg\n")
    listed = list_images([str(tmp_path / "list.txt"), str(tmp_path)])
    assert listed.paths == [str(tmp_path / name)]


def test_coco(tmp_path):
    """The ids and the order of the file; annotations may have anything."""
    content = {
        "images": [{"id": 9, "file_name": "b.jpg"}, {"id": -2, "file_name": "x/a.jpg"}],
        "annotations": [{"id": 1, "image_id": 9, "bbox": [0, 0, 1, 1], "extra": {"id": 3}}],
        "categories": [],
    }
    path = tmp_path / "val.json"
    path.write_text(json.dumps(content))
    listed = list_images([str(path)], str(tmp_path))
    assert listed.paths == [str(tmp_path / "b.jpg"), str(tmp_path / "x/a.jpg")]
    assert listed.ids == [9, -2]
    path.write_text(json.dumps(content["images"]))  # as images.json of a run
    assert list_images([str(path)], str(tmp_path)) == listed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "has no list of images"),
        ('{"annotations": []}', "has no list of images"),
        ('[{"id": 1}]', "image 0 of the list needs a file_name"),
        ('[{"id": "1", "file_name": "a"}]', "image 0 of the list needs .* whole number"),
        ('[{"id": true, "file_name": "a"}]', "image 0 of the list needs .* whole number"),
        ('[{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}]', "an image id twice"),
        ('[{"id": 99999999999999999999, "file_name": "a"}]', "does not fit into 64 bits"),
    ],
)
def test_broken_coco(content, message, tmp_path):
    path = tmp_path / "val.json"
    path.write_text(content)
    with pytest.raises(SourceError, match=message):
        list_images([str(path)], str(tmp_path))


def test_refused_sources(tmp_path):
    touch(tmp_path, "empty/notes.md", "a.jpg")
    (tmp_path / "blank.txt").write_text("\n \n")
    (tmp_path / "val.json").write_text('[{"id": 1, "file_name": "a.jpg"}]')
    (tmp_path / "binary.txt").write_bytes(b"\0\1")
    image, val = str(tmp_path / "a.jpg"), str(tmp_path / "val.json")
    for sources, folder, message in (
        ([str(tmp_path / "empty")], None, "no images in the folder .*empty"),
        ([image, str(tmp_path / "gone")], None, "no file or folder .*gone"),
        ([str(tmp_path / "*.gif")], None, "No files match the pattern .*gif"),
        ([str(tmp_path / "blank.txt")], None, "names no image"),
        ([str(tmp_path / "gone.txt")], None, "gone.txt cannot be read: No such file"),
        ([str(tmp_path / "binary.txt")], None, "is no text file"),
        (["s3://bucket/images"], None, "demo/detect_on_ray.py"),
        ([val, image], str(tmp_path), "must be the only source"),
        ([val], None, "--images is missing"),
        ([val], str(tmp_path / "gone"), "gone is no folder"),
        ([str(tmp_path / "gone.json")], str(tmp_path), "gone.json cannot be read"),
        ([image], str(tmp_path), "--images belongs to a COCO file"),
        ([""], None, 'A source is ""'),
    ):
        with pytest.raises(SourceError, match=message):
            list_images(sources, folder)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_an_unreadable_folder_is_an_error(tmp_path):
    touch(tmp_path, "a.jpg", "secret/b.jpg")
    (tmp_path / "secret").chmod(0)
    with pytest.raises(SourceError, match="secret cannot be listed: Permission denied"):
        list_images([str(tmp_path)])


def test_an_unreadable_folder_is_an_error_for_root_too(tmp_path, monkeypatch):
    """Images that are silently missing would be the worst result."""
    touch(tmp_path, "a.jpg", "secret/b.jpg")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SourceError, match="secret cannot be listed: Permission denied"):
        list_images([str(tmp_path)])


def test_links_to_folders_are_said(tmp_path, caplog):
    touch(tmp_path, "images/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "images/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "images/c.jpg").symlink_to(tmp_path / "elsewhere/b.jpg")
    with caplog.at_level(logging.WARNING):
        listed = list_images([str(tmp_path / "images")])
    assert [os.path.basename(path) for path in listed.paths] == ["a.jpg", "c.jpg"]
    assert "1 links to folders are not followed" in caplog.text


@pytest.mark.slow
def test_a_million_paths(tmp_path):
    """In seconds, and without a second copy of the names."""
    path = tmp_path / "list.txt"
    path.write_text(
        "".join(f"/data/images/{i // 1000:04d}/image{i:07d}.jpg\n" for i in range(10**6))
    )
    tracemalloc.start()
    start = time.process_time()
    listed = list_images([str(path)])
    seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(listed.paths) == 10**6 and listed.ids[-1] == 10**6
    assert seconds < 120 and peak < 700e6, (seconds, peak)
