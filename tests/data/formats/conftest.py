"""Fixtures of the formats: folders as people have them."""

from pathlib import Path

import pytest

from tests.data.coco_files import coco_content, write_coco, write_images
from tests.data.formats.builders import VOC_CAT, YOLO_BOX, voc_xml, write_image, write_text
from tood.data.formats import DataSource, read_dataset


@pytest.fixture
def folder(tmp_path):
    """A folder for a COCO file, with its images in ``images/``."""
    write_images(tmp_path / "images", coco_content())
    return tmp_path


@pytest.fixture
def read(folder):
    """Reads a content, or bytes, as a COCO file."""

    def read_content(content, encoding="utf-8", **options):
        if isinstance(content, bytes):
            path = folder / "annotations.json"
            path.write_bytes(content)
        else:
            path = write_coco(folder, content, encoding)
        return read_dataset(DataSource(str(path), str(folder / "images"), **options))

    return read_content


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """A folder of Pascal VOC with an image and its annotation, without splits."""
    write_image(tmp_path / "a.jpg")
    write_text(tmp_path / "a.xml", voc_xml([VOC_CAT], file_name="a.jpg"))
    return tmp_path


@pytest.fixture
def yolo_file(tmp_path: Path) -> Path:
    """data.yaml with two classes; images/train/{a,b}.jpg, of which a has a label."""
    for name in ("a", "b"):
        write_image(tmp_path / "images" / "train" / f"{name}.jpg")
    write_text(tmp_path / "labels" / "train" / "a.txt", f"0 {YOLO_BOX}\n")
    return write_text(tmp_path / "data.yaml", "train: images/train\nnames: [cat, dog]\n")
