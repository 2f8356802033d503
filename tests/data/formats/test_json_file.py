"""JSON files of any encoding, and files that are none."""

import json

import pytest

from tests.data.coco_files import coco_content, write_coco
from tood.data.formats import DataSource, json_file, read_dataset
from tood.errors import DataError


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"]
)
@pytest.mark.parametrize("part", [2**20, 7])
def test_encodings(read, monkeypatch, encoding, part):
    """Characters may be cut at the end of a part of the file."""
    monkeypatch.setattr(json_file, "_PART", part)
    content = coco_content()
    content["categories"][0]["name"] = "Äpfel 🍎"
    text = json.dumps(content, ensure_ascii=False).encode(encoding)
    assert read(text).class_names == ["Äpfel 🍎", "b"]


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"not { JSON", "not a JSON file"),
        (json.dumps(coco_content()).encode()[:300], "not a JSON file"),
        (b'{"images": [', "ends in the middle"),
        (b'{"id": 1}\n{"id": 2}\n', "JSON lines"),
        ('{"images": "ü"}'.encode("latin-1"), "Save it in UTF-8"),
        (b"\x1f\x8b\x08\x00", "compressed with gzip"),
        (b"PK\x03\x04abc", "ZIP"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (b'{"images": [' + b"1" * 5000 + b"]}", "number that cannot be read"),
        (b"[]", "no list 'images'"),
        (b"null", "no list 'images'"),
        (b"7", "no list 'images'"),
        (b'[{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}]', "detections"),
        (b'{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}', "no list 'images'"),
    ],
)
def test_other_files(read, data, message):
    with pytest.raises(DataError, match=message) as caught:
        read(data)
    assert "annotations.json" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["/nowhere/train.json", "x" * 5000, "a\0b", "/nowhere/\ud800"])
def test_paths_of_no_file(path):
    for format in ("auto", "coco"):
        with pytest.raises(DataError, match=r"no annotation file|cannot be read"):
            read_dataset(DataSource(path, "."), format)


def test_folder_instead_of_a_file(folder):
    write_coco(folder, coco_content())
    with pytest.raises(DataError, match=r"is a folder\. Name .*annotations\.json"):
        read_dataset(DataSource(str(folder), "."), "coco")
    (folder / "a" / "b").mkdir(parents=True)
    for place in ("a/annotations.json", "a/b/annotations.json"):
        (folder / "annotations.json").rename(folder / place)
        with pytest.raises(DataError, match=r"is a folder\. Name") as error:
            read_dataset(DataSource(str(folder), "."), "coco")
        # Further below nothing is searched: the folder could be the whole disk.
        assert ("for example" in str(error.value)) == (place.count("/") == 1)
        (folder / place).rename(folder / "annotations.json")


@pytest.mark.parametrize("part", [2**20, 8])
def test_byte_that_is_no_utf_8(read, monkeypatch, part):
    monkeypatch.setattr(json_file, "_PART", part)
    text = json.dumps(coco_content()).encode()
    with pytest.raises(DataError, match=r"in UTF-8 \(byte 500 is not utf-8\). Save it in UTF-8"):
        read(text[:500] + b"\xff" + text[500:])
    with pytest.raises(DataError, match=rf"\(byte {len(text)} is not utf-8\)"):
        read(text + "é".encode()[:1])


@pytest.mark.parametrize(
    "value, expected",
    [
        ("a\n b\tc", "a b c"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),  # what a terminal would obey
        ("\ud800", r"\ud800"),
        ("é日本", "é日本"),
        (["x"], "['x']"),
        ("x" * 200, "x" * 100 + "..."),
    ],
)
def test_values_in_messages(value, expected):
    assert json_file.printable(value) == expected
