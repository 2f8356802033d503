"""Errors of the dataset mapper name the image."""

import pytest

from tood.data import build_train_loader, setup_datasets
from tood.data.mapper import ErrorContextMapper
from tood.errors import DataError


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_unreadable_image(shapes_cfg, shapes, tmp_path, content):
    """None: a PNG that breaks off in the middle."""
    images = tmp_path / "images"
    images.mkdir()
    for path in (shapes / "images").glob("*.png"):
        data = path.read_bytes()
        (images / path.name).write_bytes(data[: len(data) // 2] if content is None else content)
    shapes_cfg.DATASETS.TRAIN_IMAGES = str(images)
    setup_datasets(shapes_cfg)
    with pytest.raises(DataError, match=r"The image .*\.png cannot be read"):
        next(iter(build_train_loader(shapes_cfg)))


def test_image_of_another_size(shapes_cfg, edited_json):
    def stretch(content):
        for image in content["images"]:
            image["width"] = 200

    shapes_cfg.DATASETS.TRAIN_ANNOTATIONS = edited_json(stretch)
    setup_datasets(shapes_cfg)
    with pytest.raises(DataError, match=r"size of the image .*\.png differs from the annotation"):
        next(iter(build_train_loader(shapes_cfg)))


def test_other_errors_pass_through():
    def fail(record):
        raise KeyError("a bug in your own mapper")

    with pytest.raises(KeyError, match="a bug"):
        ErrorContextMapper(fail)({"file_name": "x.png"})
