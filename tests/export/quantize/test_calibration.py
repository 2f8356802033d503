from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.export.quantize.helpers import INFO, draw_images
from tood.errors import ExportError
from tood.export.quantize import CalibrationBatches, select_images

INPUTS = ("images", "image_sizes", "original_sizes")


def test_images_are_chosen_evenly_and_always_the_same():
    paths = [f"{i}.jpg" for i in range(20)]
    assert select_images(paths, 8) == [Path(f"{i}.jpg") for i in (0, 2, 5, 7, 10, 12, 15, 17)]
    assert select_images(paths, 8) == select_images(paths, 8)
    assert select_images(paths, 100) == [Path(path) for path in paths]


def test_few_images_are_warned_about(caplog):
    select_images(["a.jpg"] * 8, 64)
    assert not caplog.records
    select_images(["a.jpg"] * 7, 64)
    assert "Only 7 image(s)" in caplog.text


@pytest.mark.parametrize(("paths", "count"), [([], 64), (["a.jpg"], 0)])
def test_no_images_are_an_error(paths, count):
    with pytest.raises(ExportError, match="(?i)calibrat"):
        select_images(paths, count)


def test_batches_are_what_the_model_sees(tmp_path):
    # 40x80 becomes 32x64, in BGR.
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:] = (10, 20, 30)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    info = replace(INFO, channel_order="BGR", min_size=32, size_divisor=1)
    (feed,) = CalibrationBatches([tmp_path / "a.png"], info, INPUTS)
    assert feed["images"].shape == (1, 3, 32, 64) and feed["images"].dtype == np.float32
    np.testing.assert_array_equal(feed["images"][0, :, 0, 0], [30, 20, 10])
    np.testing.assert_array_equal(feed["image_sizes"], [[32, 64]])
    np.testing.assert_array_equal(feed["original_sizes"], [[40, 80]])


def test_a_raw_file_gets_no_original_sizes_and_a_fixed_batch_is_filled(tmp_path):
    paths = draw_images(tmp_path, 3)
    batches = CalibrationBatches(paths, replace(INFO, batch=2), INPUTS[:2])
    assert len(batches) == 2
    assert [set(feed) for feed in batches] == [{"images", "image_sizes"}] * 2
    assert [len(feed["images"]) for feed in batches] == [2, 2]


def test_an_unreadable_image_is_named(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    batches = CalibrationBatches([tmp_path / "broken.jpg"], INFO, INPUTS)
    with pytest.raises(ExportError, match=r"broken\.jpg.*Remove it from the calibration images"):
        batches[0]
