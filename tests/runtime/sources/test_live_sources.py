"""Streams and cameras, which do not wait for their readers."""

import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.runtime.http_server import http_server, make_certificate, send
from tests.runtime.sources.video_files import scene, write_video
from tood_runtime.image_io import ImageReadError
from tood_runtime.prediction import SourceImage
from tood_runtime.sources.videos import newest, read_camera, read_frames

av = pytest.importorskip("av")


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


def test_certificates_of_videos_are_checked(tmp_path):
    data = write_video(tmp_path / "clip.mp4", 3).read_bytes()
    context, _ = make_certificate(tmp_path, "localhost")
    server = http_server(lambda request: send(request, 200, data), context)
    with server as host, pytest.raises(ImageReadError, match="Cannot open the video https"):
        next(read_frames(f"https://{host}/clip.mp4"))
