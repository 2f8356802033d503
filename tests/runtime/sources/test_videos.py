"""Frames of videos: numbers, times, sizes, broken ones; live sources; cameras."""

import struct
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.sources.video_files import RATE, scene, write_video
from tood_runtime.image_io import ImageReadError
from tood_runtime.prediction import SourceImage
from tood_runtime.sources.videos import count_frames, read_frames

av = pytest.importorskip("av")


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


def test_a_sound_file_has_no_images(tmp_path):
    path = tmp_path / "x.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(ImageReadError, match="no images"):
        next(read_frames(str(path)))


def test_a_video_that_was_cut_off_says_so(tmp_path):
    """Its header comes first (faststart), so it opens."""
    path = write_video(tmp_path / "clip.mp4", 100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    results = list(read_frames(str(path)))
    count = sum(isinstance(result, SourceImage) for result in results)
    assert isinstance(results[-1], ImageReadError) and count < 90
    assert " of 100 frames" in str(results[-1])


def test_times_of_an_avi_with_frames_out_of_order(tmp_path):
    path = tmp_path / "clip.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(20):
            frame = av.VideoFrame.from_ndarray(np.asarray(scene(i)), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    times = [frame.time for frame in read_frames(str(path))]
    assert times == pytest.approx([i / 25 for i in range(20)])


def test_the_film_and_not_its_thumbnail(tmp_path):
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        small = container.add_stream("mjpeg", rate=1)
        small.width, small.height, small.pix_fmt = 32, 32, "yuvj420p"
        film = container.add_stream("mpeg4", rate=10)
        film.width, film.height, film.pix_fmt = 64, 48, "yuv420p"
        for stream, count in ((small, 1), (film, 5)):
            for i in range(count):
                pixels = np.asarray(scene(i, (stream.width, stream.height)))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode(None))
    assert [frame.size for frame in read_frames(str(path))] == [(48, 64)] * 5


def test_a_colon_in_a_name_is_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(Path("2026-01-01T12:30:00.mp4"), 3)
    assert len(list(read_frames("2026-01-01T12:30:00.mp4"))) == 3
    assert count_frames("2026-01-01T12:30:00.mp4") == 3
