"""What the words of a command line mean, and what is read for them."""

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.runtime.http_server import http_server, send
from tests.runtime.sources.test_files import touch
from tests.runtime.sources.video_files import write_video
from tood_runtime.image_io import ImageReadError
from tood_runtime.sources import ImageInput, SourceError, VideoInput, collect_inputs, images_of

EMPTY_LINES = "\n   \n# a comment\n"


def png(value=7) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (value, 2, 3)).save(buffer, "PNG")
    return buffer.getvalue()


def locations(inputs, folder: Path) -> list[str]:
    return [str(item.location).removeprefix(f"{folder}/") for item in inputs]


@pytest.fixture
def files(tmp_path) -> Path:
    touch(tmp_path, "a.png", "b c.jpg", "in/d.png", "in/clip.mp4", "clip.MOV", "ünï.png", "7")
    return tmp_path


def test_kinds(files):
    pytest.importorskip("av")
    words = ["a.png", "clip.MOV", "in", "in/*.mp4", "b c.jpg", "ünï.png", "7"]
    inputs = collect_inputs([files / word for word in words])
    expected = ["a.png", "clip.MOV", "in/d.png", "in/clip.mp4", "b c.jpg", "ünï.png", "7"]
    assert locations(inputs, files) == expected
    videos = [isinstance(item, VideoInput) for item in inputs]
    assert videos == [False, True, False, True, False, False, False]


def test_urls_streams_and_cameras():
    pytest.importorskip("av")
    urls = [
        "http://host/a.jpg?width=3", "https://host/view.webp", "https://host/clip.mp4",
        "https://host/live.m3u8?token=1", "rtsp://host/1", "0", "HTTP://host/B.PNG",
    ]  # fmt: skip
    inputs = collect_inputs(urls)
    assert [item.location for item in inputs] == urls
    kinds = [type(item).__name__[0] for item in inputs]
    assert kinds == ["I", "I", "V", "V", "V", "V", "I"]
    assert [getattr(item, "is_live", None) for item in inputs[2:6]] == [False, False, True, True]
    names = ["a.jpg", "view.webp", "clip.mp4", "live.m3u8", "1", "camera0", "B.PNG"]
    assert [item.path.name for item in inputs] == names
    assert VideoInput("rtsp://host/").path.name == "stream"
    assert ImageInput("http://host/%2e%2e/..%2fx y.png").path.name == "x_y.png"


def test_a_word_is_a_file_first(files, monkeypatch):
    monkeypatch.chdir(files)
    (item,) = collect_inputs(["7"])
    assert isinstance(item, ImageInput)
    (item,) = collect_inputs([(files / "a.png").as_uri()])
    assert item.location == str(files / "a.png")


def test_each_file_counts_once_but_not_in_a_list(files):
    words = [files / "a.png", files / "in" / ".." / "a.png", files / "*.png"]
    assert len(collect_inputs(words)) == 2
    (files / "list.txt").write_text("a.png\na.png\n")
    assert len(collect_inputs([files / "list.txt"])) == 2


def test_lists(files, monkeypatch):
    pytest.importorskip("av")
    (files / "in" / "list.txt").write_bytes(
        b"\xef\xbb\xbfd.png\r\n../a.png  \r\n" + EMPTY_LINES.encode() + "../ünï.png\r\n".encode()
        + b"../b c.jpg\nhttp://host/x.png\nmissing.png\nclip.mp4\n" + f"{files}/a.png".encode()
    )  # fmt: skip
    inputs = collect_inputs([files / "in" / "list.txt"])
    assert [item.path.name for item in inputs] == [
        "d.png", "a.png", "ünï.png", "b c.jpg", "x.png", "missing.png", "clip.mp4", "a.png"
    ]  # fmt: skip
    # Relative to the working folder first.
    monkeypatch.chdir(files)
    (files / "in" / "list.txt").write_text("a.png")
    assert collect_inputs(["in/list.txt"])[0].location == "a.png"


def test_bad_lists(files):
    (files / "self.txt").write_text("self.txt")
    with pytest.raises(SourceError, match="name each other"):
        collect_inputs([files / "self.txt"])
    (files / "latin.txt").write_bytes(b"caf\xe9.png")
    with pytest.raises(SourceError, match="Save it as UTF-8"):
        collect_inputs([files / "latin.txt"])
    (files / "empty.txt").write_text(EMPTY_LINES)
    with pytest.raises(SourceError, match=r"empty\.txt names nothing"):
        collect_inputs([files / "empty.txt"])


@pytest.mark.parametrize(
    ("data", "expected"),
    [(png(), ["stdin"]), (b"a.png\nin\n", ["a.png", "in/d.png"]), (b"P5 1 1 255 x", None)],
)
def test_standard_input(files, monkeypatch, data, expected):
    monkeypatch.chdir(files)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    inputs = collect_inputs(["-"])
    if expected is None:
        assert isinstance(inputs[0], ImageInput) and inputs[0].data == data
        return
    assert [item.location for item in inputs] == expected
    if expected == ["stdin"]:
        assert tuple(inputs[0].read()[0, 0]) == (7, 2, 3)


def test_nothing_is_found(files, caplog):
    with pytest.raises(SourceError, match=r"Found no images in .*x\.png, s3://b/x\.png"):
        collect_inputs([files / "x.png", "s3://b/x.png"])
    assert len(caplog.messages) == 2 and "URLs of this kind" in caplog.messages[1]
    caplog.clear()
    assert len(collect_inputs([files / "x.png", files / "a.png"])) == 1
    assert len(caplog.messages) == 1 and "no such file" in caplog.messages[0]


def test_images_of_every_kind(tmp_path):
    pytest.importorskip("av")
    write_video(tmp_path / "clip.mp4", 3)
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "list.txt").write_text("a.png\nclip.mp4\na.png")
    images = list(images_of(tmp_path / "list.txt"))
    assert images[0] == images[4] == str(tmp_path / "a.png")
    assert [frame.frame for frame in images[1:4]] == [0, 1, 2]


def test_a_dead_video_is_an_error_in_its_place(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "x.mp4").write_bytes(b"no video")
    (error,) = images_of(tmp_path / "x.mp4")
    assert isinstance(error, ImageReadError) and "x.mp4" in str(error)
    assert VideoInput(str(tmp_path / "x.mp4")).count() is None


def test_an_image_of_a_server():
    files = {"/x.png": png(), "/text": b"hello"}

    def answer(request):
        body = files.get(request.path)
        send(request, 404 if body is None else 200, body or b"")

    with http_server(answer) as host:
        url = f"http://{host}"
        assert tuple(ImageInput(f"{url}/x.png").read()[0, 0]) == (7, 2, 3)
        for path, message in (("/text", "not an image"), ("/no.png", "404")):
            with pytest.raises(ImageReadError, match=message):
                ImageInput(f"{url}{path}").read()
    with pytest.raises(ImageReadError, match=f"Cannot fetch {url}/x.png"):
        ImageInput(f"{url}/x.png").read()


def test_other_sources_are_refused():
    for source in (True, 3.5, None, np.zeros(3).tolist):
        with pytest.raises(TypeError, match="iterable of images"):
            images_of(source)


def test_numbers_in_lists_are_files(files, caplog):
    (files / "list.txt").write_text("0\n7\n-\n")
    inputs = collect_inputs([files / "list.txt"])
    assert [type(item) for item in inputs] == [ImageInput] * 3
    assert inputs[1].location == str(files / "7")
    with pytest.raises(SourceError, match="000001"):
        collect_inputs(["000001"])
    with pytest.raises(SourceError, match="Cameras count from 0"):
        images_of(-1)


def test_closed_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SourceError, match="standard input is closed"):
        collect_inputs(["-"])


def test_links_to_folders_are_named(files, caplog):
    (files / "in" / "link").symlink_to(files)
    assert locations(collect_inputs([files / "in"]), files) == ["in/d.png"]
    assert "1 links to folders are not followed" in caplog.text


def test_urls_of_ip_cameras():
    """Without a suffix, the server says what it is."""
    pytest.importorskip("av")
    kinds = {"/image": "image/png", "/camera": "multipart/x-mixed-replace; boundary=x",
             "/film": "video/mp4"}  # fmt: skip

    def answer(request):
        send(request, 200, png(), Content_Type=kinds[request.path])

    with http_server(answer) as host:
        inputs = collect_inputs([f"http://{host}{path}" for path in kinds])
        assert [getattr(item, "is_live", None) for item in inputs] == [None, True, True]
        with pytest.raises(ImageReadError, match="it is a video .video/mp4. and no image"):
            ImageInput(f"http://{host}/film").read()
