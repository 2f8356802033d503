"""Frames of videos: numbers, times, sizes, broken ones; live sources; cameras."""

import struct
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.runtime.http_server import http_server
from tood_runtime.image_io import ImageReadError
from tood_runtime.outputs.video_file import VideoWriter
from tood_runtime.prediction import SourceImage
from tood_runtime.sources.videos import count_frames, newest, read_camera, read_frames

av = pytest.importorskip("av")

RATE = Fraction(30000, 1001)


def scene(index: int, size=(64, 48)) -> Image.Image:
    """A gray image that gets brighter, with a white square in the upper left quarter."""
    pixels = np.full((size[1], size[0], 3), 10 * (index % 25), np.uint8)
    pixels[4:14, 4:24] = (250, 40, 40)
    return Image.fromarray(pixels)


def write_video(path: Path, count=12, size=(64, 48), rate=RATE, times=None) -> Path:
    writer = VideoWriter(path, size, rate)
    for i in range(count):
        writer.write(scene(i, size), i / rate if times is None else times[i])
    writer.close()
    return path


@pytest.mark.parametrize(("suffix", "size"), [(".mp4", (64, 48)), (".webm", (63, 47))])
def test_what_is_written_is_read(tmp_path, suffix, size):
    path = write_video(tmp_path / f"clip{suffix}", size=size)
    assert [p.name for p in tmp_path.iterdir()] == [f"clip{suffix}"]
    frames = list(read_frames(str(path)))
    assert [frame.frame for frame in frames] == list(range(12))
    assert count_frames(str(path)) == 12
    for i, frame in enumerate(frames):
        assert frame.size == size[::-1] and frame.path == str(path)
        assert frame.time == pytest.approx(i / float(RATE), abs=1e-3)
        assert float(frame.rate) == pytest.approx(float(RATE), rel=1e-3)
        assert np.abs(frame.pixels.astype(int) - np.asarray(scene(i, size))).mean() < 4
    red, green, blue = frames[5].pixels[9, 14].astype(int)
    assert red > 200 and green < 100 and blue < 100  # the channels are in order


def test_frames_keep_their_times(tmp_path):
    """As of a phone, whose frames are not evenly spaced."""
    times = [5.0, 5.1, 5.15, 5.5, 6.0]
    path = write_video(tmp_path / "clip.mp4", 5, times=times)
    found = [frame.time for frame in read_frames(str(path))]
    assert found == pytest.approx([0, 0.1, 0.15, 0.5, 1.0], abs=1e-3)


def turn(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Write a matrix into the track header, as phones do that were held upright."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version, flags, times, ids, layer, volume
    struct.pack_into(">iiiiiii", data, at, matrix[0], matrix[1], 0, matrix[2], matrix[3], 0, 0)
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("matrix", "turns"),
    [((0, 1, -1, 0), 3), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)],  # numpy turns to the left
)
def test_frames_are_turned_as_the_file_says(tmp_path, matrix, turns):
    """A matrix of (0, 1, -1, 0) shows the video a quarter turn to the right."""
    path = write_video(tmp_path / "clip.mp4", 2)
    turn(path, tuple(value << 16 for value in matrix))
    frame = next(read_frames(str(path)))
    expected = np.rot90(np.asarray(scene(0)), turns)
    assert frame.pixels.shape == expected.shape
    assert np.abs(frame.pixels.astype(int) - expected).mean() < 4


def test_a_broken_frame_is_an_error_in_its_place(tmp_path):
    """Every frame a key frame, one of them damaged: the others are all there."""
    path = tmp_path / "clip.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for i in range(6):
            frame = av.VideoFrame.from_ndarray(np.asarray(scene(i)), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuvj420p")))
        container.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    starts = [i for i in range(len(data) - 3) if data[i : i + 3] == b"\xff\xd8\xff"]
    assert len(starts) == 6
    data[starts[2] + 2 : starts[3] - 16] = bytes(starts[3] - 16 - starts[2] - 2)
    path.write_bytes(bytes(data))
    results = list(read_frames(str(path)))
    errors = [i for i, result in enumerate(results) if isinstance(result, ImageReadError)]
    assert errors == [2] and f"frame 2 of {path}" in str(results[2])
    assert [r.frame for r in results if isinstance(r, SourceImage)] == [0, 1, 3, 4, 5]


def test_a_truncated_video_gives_what_is_there(tmp_path):
    path = write_video(tmp_path / "clip.webm", 60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames = [f for f in read_frames(str(path)) if isinstance(f, SourceImage)]
    assert 5 < len(frames) < 60


def test_what_is_no_video(tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"text" * 100)
    (tmp_path / "empty.mp4").touch()
    for name, message in (
        ("x.mp4", "Cannot open the video .*x.mp4: Invalid data"),
        ("empty.mp4", "Cannot open the video"),
        ("missing.mp4", "Cannot open the video .*No such file"),
    ):
        with pytest.raises(ImageReadError, match=message):
            next(read_frames(str(tmp_path / name)))
        with pytest.raises(ImageReadError, match=message):
            count_frames(str(tmp_path / name))


def test_a_sound_file_has_no_pictures(tmp_path):
    path = tmp_path / "x.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(ImageReadError, match="no pictures"):
        next(read_frames(str(path)))


def frame_of(number: int) -> SourceImage:
    return SourceImage(np.zeros((2, 2, 3), np.uint8), "camera0", number)


def test_old_frames_of_live_sources_are_skipped_and_errors_are_not():
    go_on, all_read = threading.Event(), threading.Event()

    def frames():
        yield frame_of(0)
        go_on.wait(5)
        yield frame_of(1)
        yield ImageReadError("broken")
        yield frame_of(2)
        yield frame_of(3)
        all_read.set()

    results = newest(frames())
    assert next(results).frame == 0
    go_on.set()
    assert all_read.wait(5)
    time.sleep(0.05)
    left = list(results)
    assert [getattr(r, "frame", None) for r in left] in ([1, None, 3], [None, 3])


def test_a_live_source_is_closed_with_its_reader():
    closed = threading.Event()

    def frames():
        try:
            for number in range(10**9):
                time.sleep(0.001)
                yield frame_of(number)
        finally:
            closed.set()

    results = newest(frames())
    next(results)
    results.close()
    assert closed.wait(5)


def test_an_error_of_a_live_source_is_raised():
    def frames():
        yield frame_of(0)
        raise ImageReadError("gone")

    results = newest(frames())
    assert next(results).frame == 0
    with pytest.raises(ImageReadError, match="gone"):
        next(results)


class FakeCamera:
    """Three frames of OpenCV, in BGR."""

    def __init__(self, index):
        self.left = 3 if index == 0 else 0
        self.opened = index == 0

    def isOpened(self):
        return self.opened

    def read(self):
        self.left -= 1
        return self.left >= 0, np.full((4, 6, 3), (1, 2, 3), np.uint8)

    def release(self):
        self.opened = False


def test_a_camera(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(VideoCapture=FakeCamera))
    frames = read_camera(0)
    first = next(frames)
    assert tuple(first.pixels[0, 0]) == (3, 2, 1) and first.path == "camera0"
    assert [next(frames).frame, next(frames).frame] == [1, 2]
    with pytest.raises(ImageReadError, match="Camera 0 gives no more frames, after 3"):
        next(frames)
    with pytest.raises(ImageReadError, match="Cannot open camera 7"):
        next(read_camera(7))


def write_stream(path: Path, count: int) -> Path:
    """An MPEG transport stream, which is made for reading without going back."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(np.asarray(scene(i)), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_a_stream_over_http(tmp_path):
    """A server that sends a file slowly, as a stream does."""
    data = write_stream(tmp_path / "clip.ts", 10).read_bytes()

    def answer(request):
        request.send_response(200)
        request.send_header("Content-Type", "video/mp2t")
        if request.path == "/live.ts":
            request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        for start in range(0, len(data), 500):
            request.wfile.write(data[start : start + 500])

    with http_server(answer) as host:
        url = f"http://{host}/live.ts"
        frames = list(read_frames(url))
        assert [getattr(frame, "frame", frame) for frame in frames] == list(range(10))
        # A server that hangs up: all frames, and an error, because there may have been more.
        *frames, error = read_frames(url.replace("live", "broken"))
        assert [frame.frame for frame in frames] == list(range(10))
        assert "to its end" in str(error)
    with pytest.raises(ImageReadError, match="Cannot open the video http"):
        next(read_frames(url))
