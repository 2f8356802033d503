"""One batch of a table, as Ray and others give it."""

import io
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.runtime.dataset.fake import FakeDetector
from tood_runtime.dataset import COLUMNS, BatchDetector, ImageRecord, arrow_schema, to_table
from tood_runtime.image_io import read_image

pa = pytest.importorskip("pyarrow")


def paths_of(folder):
    return sorted(map(str, folder.glob("image*")))


def test_paths_bytes_and_pixels_give_the_same(images):
    paths = paths_of(images)
    detect = BatchDetector(FakeDetector(), batch_size=4)
    by_path = detect({"path": np.array(paths, dtype=object)})
    contents = [Path(path).read_bytes() for path in paths]
    pixels = np.empty(len(paths), dtype=object)
    pixels[:] = [read_image(path) for path in paths]
    assert tuple(by_path) == COLUMNS
    assert detect({"bytes": contents, "path": paths}) == by_path
    assert detect({"image": pixels, "path": paths}) == by_path
    assert {len(found) for found in by_path["confidence"]} == {0, 1, 2, 3}


def test_each_row_is_what_predict_finds(images):
    paths = paths_of(images)
    detect = BatchDetector(FakeDetector(), batch_size=4, score_threshold=0.5, classes=["bee"])
    columns = detect({"path": paths, "image_id": range(len(paths))})
    assert columns["image_id"] == list(range(len(paths)))
    found = FakeDetector().predict(paths, score_threshold=0.5, classes=["bee"])
    for index, expected in enumerate(found):
        assert columns["path"][index] == expected.path
        assert (columns["height"][index], columns["width"][index]) == expected.image_size
        corners = [columns[name][index] for name in ("x1", "y1", "x2", "y2")]
        np.testing.assert_array_equal(np.float32(corners).T.reshape(-1, 4), expected.xyxy)
        np.testing.assert_array_equal(np.float32(columns["confidence"][index]), expected.confidence)
        assert columns["class_id"][index] == expected.class_id.tolist()
        assert columns["class_name"][index] == expected.class_names
    assert {name for names in columns["class_name"] for name in names} == {"bee"}


def test_batches_hold_images_of_one_size(images):
    detector = FakeDetector()
    BatchDetector(detector, batch_size=4)({"path": paths_of(images)})
    assert max(detector.batch_sizes) == 4 and sum(detector.batch_sizes) == 26
    assert len(detector.batch_sizes) <= math.ceil(26 / 4) + 2


def test_broken_images_are_rows_in_their_place(images, tmp_path):
    good = paths_of(images)[:2]
    bomb = tmp_path / "bomb.png"
    Image.new("1", (20000, 10000)).save(bomb)
    paths = [good[0], str(images / "broken.jpg"), str(tmp_path / "gone.jpg"), good[1], str(bomb)]
    count = []
    detect = BatchDetector(FakeDetector(), batch_size=2)
    columns = detect({"path": [*paths, str(tmp_path)]})
    assert columns["error"][0] is None and columns["error"][3] is None
    assert "broken.jpg: it is not an image in a format" in columns["error"][1]
    assert "gone.jpg: it does not exist" in columns["error"][2]
    assert "bomb.png: it has too many pixels" in columns["error"][4]
    assert "it is not a regular file" in columns["error"][5]
    assert columns["width"][1] is None and columns["class_id"][1] is None
    records = [ImageRecord("a", 1, path) for path in paths]
    rows = detect.detect(records, on_image=lambda: count.append(1))
    assert len(rows) == len(count) == 5


def test_broken_bytes_and_nulls():
    truncated = io.BytesIO()
    Image.new("RGB", (50, 50), "red").save(truncated, "PNG")
    values = [None, b"", b"no image", truncated.getvalue()[:60]]
    columns = BatchDetector(FakeDetector())({"bytes": values, "path": ["n", "e", "t", "c"]})
    assert columns["error"][0] == "There is no image: n is null."
    for name, error in zip("etc", columns["error"][1:], strict=True):
        assert error.startswith(f"Cannot read the image {name}: ")


def test_orientation_of_bytes_is_that_of_files(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    detect = BatchDetector(FakeDetector())
    by_path = detect({"path": [str(tmp_path / "turned.png")]})
    assert (by_path["width"], by_path["height"]) == ([24], [40])
    content = (tmp_path / "turned.png").read_bytes()
    assert detect({"bytes": [content], "path": by_path["path"]}) == by_path


def test_pixels_have_the_channel_order_of_the_option():
    pixels = np.random.default_rng(0).integers(0, 256, (1, 20, 20, 3), dtype=np.uint8)
    seen = []

    class Recorder(FakeDetector):
        def _find(self, pixels):
            seen.append(pixels)
            return super()._find(pixels)

    BatchDetector(Recorder(), channel_order="BGR")({"image": pixels[..., ::-1]})
    np.testing.assert_array_equal(seen[0], pixels[0])


def test_a_model_is_loaded_where_it_is_needed():
    assert BatchDetector(partial(FakeDetector, 0.0)).detector.class_names == ["ant", "bee", "cat"]
    with pytest.raises(TypeError, match="it returned NoneType"):
        BatchDetector(lambda: None)
    with pytest.raises(ValueError, match="Unknown classes 'dog'"):
        BatchDetector(FakeDetector(), classes=["dog"])
    with pytest.raises(ValueError, match="It needs one of the columns image, bytes, path; .* url"):
        BatchDetector(FakeDetector())({"url": ["x"]})


def test_errors_of_the_network_are_no_rows(images):
    """A GPU without memory would else turn good images into broken ones."""

    class Failing(FakeDetector):
        def _find(self, pixels):
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        BatchDetector(Failing())({"path": paths_of(images)})


def test_types_do_not_depend_on_the_rows(images):
    detect = BatchDetector(FakeDetector())
    empty = BatchDetector(FakeDetector(), score_threshold=1.0)
    tables = [
        to_table(columns)
        for columns in (
            detect({"path": paths_of(images)}),
            empty({"path": paths_of(images)[:3]}),
            detect({"path": ["gone.jpg"]}),
            detect({"bytes": []}),
        )
    ]
    assert all(table.schema == arrow_schema() for table in tables)
    assert len(pa.concat_tables(tables)) == 26 + 3 + 1
