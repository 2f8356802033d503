"""Image files are checked before training needs them."""

import threading

import pytest
from PIL import Image

from tests.data.builders import make_dataset, save_photos
from tood.data import header_checks
from tood.data.header_checks import BackgroundHeaderCheck, check_test_headers, start_header_check
from tood.data.image_headers import check_image_headers
from tood.errors import DataError


@pytest.fixture
def sets(tiny_cfg, tmp_path, monkeypatch):
    """A training and a test set of 5 images each, as the loaders would load them."""
    sets = {}
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        files = save_photos(tmp_path / name, list(range(5)))
        boxes = [(i, 0, 9, 9, 20, 20) for i in range(5)]
        sets[name] = make_dataset(boxes, (160, 120), 5, file_names=files, source=f"{name}.json")
    tiny_cfg.DATASETS.TRAIN, tiny_cfg.DATASETS.TEST = ("train",), ("test",)
    monkeypatch.setattr(header_checks, "load_dataset", sets.__getitem__)
    return sets


def test_good_images(sets, tiny_cfg, caplog):
    check_test_headers(tiny_cfg)
    check = start_header_check(tiny_cfg)
    check.join(60)
    assert check.report.num_images == 5 and not check.report.errors and not caplog.messages


def test_bad_test_images_are_found_at_the_start(sets, tiny_cfg):
    files = sets["test"].file_names
    with open(files[1], "wb") as file:
        file.write(b"no image")
    Image.new("RGB", (50, 50)).save(files[2])
    Image.new("RGB", (50, 50)).save(files[4])
    with pytest.raises(DataError) as error:
        check_test_headers(tiny_cfg)
    message = str(error.value)
    assert "test.json cannot be evaluated" in message and "\n" not in message
    assert "images that cannot be read: 1, for example" in message and files[1] in message
    assert "another size than annotated: 2, for example" in message and files[2] in message


def test_bad_training_images_are_found_in_the_background(sets, tiny_cfg, caplog, monkeypatch):
    monkeypatch.setattr(header_checks, "_STEP", 2)
    for index in (0, 3):
        Image.new("RGB", (50, 50)).save(sets["train"].file_names[index])
    check = start_header_check(tiny_cfg)
    check.join(60)
    (message,) = caplog.messages
    assert "has images that cannot be used (5 of 5 were checked)." in message
    assert "another size than annotated: 2" in message and sets["train"].file_names[0] in message
    assert check.report.num_images == 5
    assert list(check.report.images.values()) == [[0, 3]]


def test_orientation_follows_the_config(sets, tiny_cfg):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (160, 120)).save(sets["test"].file_names[0], exif=exif)
    with pytest.raises(DataError, match="set INPUT.APPLY_EXIF_ORIENTATION False"):
        check_test_headers(tiny_cfg)
    tiny_cfg.INPUT.APPLY_EXIF_ORIENTATION = False
    check_test_headers(tiny_cfg)


def test_the_background_can_be_stopped(sets, caplog):
    before = threading.active_count()
    check = BackgroundHeaderCheck(sets["train"])
    check.stop()
    assert threading.active_count() == before and not caplog.messages


def test_what_was_found_before_the_stop_is_said(sets, caplog, monkeypatch):
    Image.new("RGB", (50, 50)).save(sets["train"].file_names[0])
    monkeypatch.setattr(header_checks, "_STEP", 1)
    first_step, release = threading.Event(), threading.Event()

    def check_then_wait(*args, **kwargs):
        report = check_image_headers(*args, **kwargs)
        first_step.set()
        release.wait(60)
        return report

    monkeypatch.setattr(header_checks, "check_image_headers", check_then_wait)
    check = BackgroundHeaderCheck(sets["train"])
    assert first_step.wait(60)
    check._stopped.set()
    release.set()
    check.stop()
    (message,) = caplog.messages
    assert "(1 of 5 were checked)" in message and sets["train"].file_names[0] in message
