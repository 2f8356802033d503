"""Drawn videos play in a browser."""

import functools
import http.server
import shutil
import threading

import pytest

from tests.examples.chromium import Chromium
from tests.runtime.sources.video_files import write_video

pytest.importorskip("av")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

PLAY = """
new Promise(resolve => {
  const video = document.querySelector("video");
  const end = event => resolve({
    event: event.type, error: video.error && video.error.message, width: video.videoWidth,
    height: video.videoHeight, duration: video.duration,
    frames: video.getVideoPlaybackQuality().totalVideoFrames});
  video.onended = end;
  video.onerror = end;
  video.muted = true;
  video.playbackRate = 4;
  video.src = FILE;
  video.play();
})
"""

# The color in the middle of the white-and-red square of `scene`.
COLOR = """
(() => {
  const video = document.querySelector("video"), canvas = document.createElement("canvas");
  canvas.width = video.videoWidth; canvas.height = video.videoHeight;
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0);
  return Array.from(context.getImageData(14, 9, 1, 1).data);
})()
"""


@pytest.fixture
def url(tmp_path):
    (tmp_path / "index.html").write_text("<!doctype html><video></video>")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/index.html"
        server.shutdown()


def test_videos_play(tmp_path, url):
    write_video(tmp_path / "a.webm", 30, (63, 47))
    write_video(tmp_path / "b.mp4", 30, (64, 48))
    profile = tmp_path / "profile"
    profile.mkdir()
    with Chromium(CHROMIUM, profile) as browser:
        browser.open(url)
        types = {
            "a.webm": 'video/webm; codecs="vp9"',
            "b.mp4": 'video/mp4; codecs="avc1.64001f"',
        }
        for name, size in (("a.webm", (63, 47)), ("b.mp4", (64, 48))):
            supported = f"document.createElement('video').canPlayType('{types[name]}')"
            if name == "b.mp4" and not browser.evaluate(supported):
                continue  # Chromium without H.264, which is patented
            played = browser.evaluate(PLAY.replace("FILE", repr(name)))
            assert played["event"] == "ended", played
            assert (played["width"], played["height"]) == size
            assert played["duration"] == pytest.approx(30 * 1001 / 30000, abs=0.05)
            assert played["frames"] > 5
            red, green, blue, _ = browser.evaluate(COLOR)
            assert red > 200 and green < 100 and blue < 100
