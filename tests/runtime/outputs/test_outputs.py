"""Tables, label files, crops, drawings and videos: written and read back."""

import csv
import importlib.util
import json
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tood_runtime.detections import Detections
from tood_runtime.image_io import read_image
from tood_runtime.image_writing import ImageWriteError
from tood_runtime.output_files import OutputError
from tood_runtime.outputs import (
    CocoFile,
    CropsFolder,
    CsvFile,
    Drawings,
    ParquetFile,
    Result,
    Window,
    YoloFolder,
)
from tood_runtime.sources import ImageInput, SourceError, VideoInput
from tood_runtime.sources.videos import read_frames

DETECTOR = SimpleNamespace(category_ids=[10, 20], predicts_masks=False)
INPUTS = [ImageInput("a/x.png"), ImageInput("b/x.png"), VideoInput("clip.mp4"), ImageInput("y.gif")]


def detections(frame=None, count=2, tracked=False, size=(40, 60)) -> Detections:
    boxes = [[10, 5, 30.5, 25], [0, 0, 60, 40]][:count]
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([0.9, 0.5][:count], np.float32),
        np.array([1, 0][:count], np.int64),
        ["big, red/car", "dog"][:count],
        size,
        frame=frame,
        time=None if frame is None else frame / 10,
        tracker_id=np.array([7, -1]) if tracked else None,
    )


def pixels(value=90, size=(40, 60)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


def results() -> list[Result]:
    """Two images of one name, two frames of a video, and an image without objects."""
    rate = Fraction(10)
    return [
        Result(0, INPUTS[0], 1, pixels(), detections()),
        Result(1, INPUTS[1], 2, pixels(), detections()),
        Result(2, INPUTS[2], 3, pixels(60), detections(0, tracked=True), rate),
        Result(2, INPUTS[2], 4, pixels(90), detections(1, tracked=True), rate),
        Result(3, INPUTS[3], 5, pixels(), detections(count=0)),
    ]


def write(output) -> None:
    output.open(DETECTOR)
    try:
        for result in results():
            output.add(result)
    finally:
        output.close()


def test_coco(tmp_path, capsys):
    write(CocoFile(str(tmp_path / "new" / "r.json")))
    found = json.loads((tmp_path / "new" / "r.json").read_text())
    images = json.loads((tmp_path / "new" / "r_images.json").read_text())
    assert [image["id"] for image in images] == [1, 2, 3, 4, 5]
    assert images[3] == {
        "id": 4, "file_name": "clip.mp4", "height": 40, "width": 60, "frame": 1, "time": 0.1
    }  # fmt: skip
    assert "frame" not in images[0] and "tracker_id" not in found[0]
    assert found[0]["category_id"] == 20 and found[0]["bbox"] == [10, 5, 20.5, 20]
    assert [row["tracker_id"] for row in found if row["image_id"] == 4] == [7, -1]
    assert len(found) == 8
    write(CocoFile(None))
    assert json.loads(capsys.readouterr().out) == found


def test_csv(tmp_path):
    write(CsvFile(str(tmp_path / "new" / "r.csv")))
    with open(tmp_path / "new" / "r.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert rows[0]["class_name"] == "big, red/car" and rows[0]["frame"] == ""
    assert float(rows[0]["x2"]) == 30.5 and rows[0]["image_width"] == "60"
    assert rows[6]["path"] == "clip.mp4" and rows[6]["frame"] == "1"
    assert rows[6]["tracker_id"] == "7" and float(rows[6]["time"]) == 0.1


def test_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write(ParquetFile(str(tmp_path / "new" / "r.parquet")))
    rows = parquet.read_table(tmp_path / "new" / "r.parquet").to_pylist()
    write(CsvFile(str(tmp_path / "r.csv")))
    with open(tmp_path / "r.csv", encoding="utf-8", newline="") as file:
        expected = list(csv.DictReader(file))
    assert list(rows[0]) == list(expected[0])
    for row, texts in zip(rows, expected, strict=True):
        for name, value in row.items():
            assert str("" if value is None else value) == texts[name]
    assert rows[0]["frame"] is None and rows[6]["tracker_id"] == 7


def test_a_table_of_nothing(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    for output in (CsvFile(str(tmp_path / "r.csv")), ParquetFile(str(tmp_path / "r.parquet"))):
        output.open(DETECTOR)
        output.close()
    assert (tmp_path / "r.csv").read_text().startswith("path,frame,time,tracker_id,class_id")
    assert parquet.read_table(tmp_path / "r.parquet").num_rows == 0


def test_yolo(tmp_path):
    write(YoloFolder(str(tmp_path), INPUTS))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["a_x.txt", "b_x.txt", "clip_000000.txt", "clip_000001.txt", "y.txt"]
    assert (tmp_path / "y.txt").read_text() == ""
    assert (tmp_path / "a_x.txt").read_text() == detections().to_yolo()


def test_crops(tmp_path):
    write(CropsFolder(str(tmp_path), INPUTS))
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.jpg"))
    stems = ("a_x", "b_x", "clip_000000", "clip_000001")
    assert names == sorted(
        [f"big, red_car/{stem}_0.jpg" for stem in stems] + [f"dog/{stem}_1.jpg" for stem in stems]
    )
    assert Image.open(tmp_path / "big, red_car" / "a_x_0.jpg").size == (21, 20)


def test_ground_truth_is_not_replaced(tmp_path):
    (tmp_path / "y.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(OutputError, match="y.txt has labels without confidences"):
        write(YoloFolder(str(tmp_path), INPUTS))
    (tmp_path / "y.txt").write_text("0 0.5 0.5 0.1 0.1 0.9\n")  # of an earlier run
    write(YoloFolder(str(tmp_path), INPUTS))


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_drawings(tmp_path, suffix):
    pytest.importorskip("av")
    write(Drawings(str(tmp_path), INPUTS, suffix))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(["a_x.png", "b_x.png", f"clip{suffix}", "y.gif.png"])
    frames = list(read_frames(str(tmp_path / f"clip{suffix}")))
    assert [frame.size for frame in frames] == [(40, 60)] * 2
    assert frames[1].time == pytest.approx(0.1, abs=1e-3)
    assert (read_image(tmp_path / "a_x.png") != 90).any()


def test_a_video_of_an_odd_size(tmp_path, caplog):
    pytest.importorskip("av")
    caplog.set_level("INFO")
    output = Drawings(str(tmp_path), INPUTS)
    output.open(DETECTOR)
    for frame in range(3):
        found = detections(frame, size=(41, 61))
        output.add(Result(2, INPUTS[2], 3, pixels(size=(41, 61)), found, Fraction(10)))
    output.close()
    assert [path.name for path in tmp_path.iterdir()] == ["clip.webm"]
    assert next(read_frames(str(tmp_path / "clip.webm"))).size == (41, 61)
    assert "61x41 pixels are odd" in caplog.text


def test_a_stream_that_changes_its_size(tmp_path):
    pytest.importorskip("av")
    output = Drawings(str(tmp_path), INPUTS)
    output.open(DETECTOR)
    for frame, size in enumerate([(40, 60), (80, 120)]):
        result = Result(2, INPUTS[2], 3, pixels(size=size), detections(frame, size=size))
        output.add(Result(*list(vars(result).values())[:-1], rate=Fraction(10)))
    output.close()
    sizes = [frame.size for frame in read_frames(str(tmp_path / "clip.mp4"))]
    assert sizes == [(40, 60)] * 2


def test_a_drawing_that_cannot_be_written_is_no_end(tmp_path):
    output = Drawings(str(tmp_path), INPUTS[:2])
    output.open(DETECTOR)
    (tmp_path / "a_x.png").mkdir()
    with pytest.raises(ImageWriteError, match="a_x.png"):
        output.add(results()[0])
    output.add(results()[1])
    assert (tmp_path / "b_x.png").is_file()


def test_what_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    tables = [CsvFile, CocoFile]
    if importlib.util.find_spec("pyarrow") is not None:
        tables.append(ParquetFile)
    for make in tables:
        with pytest.raises(OutputError, match="is a folder"):
            make(str(tmp_path))
        with pytest.raises(OutputError, match="is a file"):
            make(str(tmp_path / "file" / "x"))
    for make in (YoloFolder, CropsFolder, Drawings):
        with pytest.raises(OutputError, match="it is a file"):
            make(str(tmp_path / "file"), INPUTS[:2]).open(DETECTOR)
    (tmp_path / "x.png").touch()
    with pytest.raises(SourceError, match="would overwrite"):
        Drawings(str(tmp_path), [ImageInput(str(tmp_path / "x.png"))])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(tmp_path):
    output = CsvFile("/dev/full")
    output.open(DETECTOR)
    with pytest.raises(OutputError, match="No space left"):
        for _ in range(1000):
            output.add(results()[0])
        output.close()


class FakeWindow:
    """OpenCV's window functions."""

    WINDOW_NORMAL, WND_PROP_VISIBLE, error = 0, 4, RuntimeError

    def __init__(self, key=-1, visible=1):
        self.key, self.visible, self.shown, self.waits = key, visible, [], []

    def namedWindow(self, *_):
        pass

    def imshow(self, _, image):
        self.shown.append(image)

    def waitKey(self, milliseconds):
        self.waits.append(milliseconds)
        return self.key

    def getWindowProperty(self, *_):
        return self.visible

    def destroyAllWindows(self):
        self.shown.append(None)


def test_a_window(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    fake = FakeWindow()
    monkeypatch.setitem(sys.modules, "cv2", fake)
    write(Window())
    assert len(fake.shown) == 6 and fake.shown[-1] is None
    assert fake.waits == [0, 0, 1, 1, 0]  # images wait for a key, frames do not
    blue, _, red = fake.shown[0][fake.shown[0].shape[0] // 2, 1].astype(int)
    drawn = np.asarray(Image.fromarray(fake.shown[0]))
    assert drawn.shape[2] == 3 and (blue, red) != (90, 90)
    for fake in (FakeWindow(key=ord("q")), FakeWindow(key=27), FakeWindow(visible=0)):
        monkeypatch.setitem(sys.modules, "cv2", fake)
        with pytest.raises(KeyboardInterrupt):
            write(Window())


def test_no_display(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(OutputError, match="needs a display"):
        Window()
