"""The server's page in a headless Chromium."""

import json
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from tests.examples.chromium import Chromium
from tests.examples.images import orientation
from tests.examples.web_page import set_threshold, text_of, wait_for_answer
from tests.runtime.serving.fake_detector import FakeDetector, as_json, image
from tests.runtime.serving.live_server import live_server, metric
from tood_runtime.image_io import read_image

pytest.importorskip("uvicorn")
pytest.importorskip("fastapi")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

REQUESTS = 'tood_request_seconds_count{endpoint="/detect"}'


@pytest.fixture(scope="module")
def port():
    with live_server(batch_wait=0.0, max_body_bytes=100_000) as port:
        yield port


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Chromium(CHROMIUM, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def page(browser, port):
    browser.open("about:blank")
    browser.open(f"http://127.0.0.1:{port}/")
    browser.wait_for("document.getElementById('main').getAttribute('aria-busy') === 'false'")
    assert text_of(browser, "error") == ""
    browser.evaluate(
        "URL.createObjectURL = (make => blob => make(window.savedBlob = blob))"
        "(URL.createObjectURL.bind(URL)), 0"
    )
    return browser


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def drop(page, *paths):
    page.drop_files("#stage", paths)
    wait_for_answer(page)


def saved_detections(page) -> dict:
    """What the link "Save as JSON" gives. The page's policy does not let a script read it there."""
    assert text_of(page, "error") == ""
    return json.loads(page.evaluate("savedBlob.text()"))


def colored_pixels(page) -> int:
    """Pixels of the canvas that are not gray: those of boxes and labels."""
    return page.evaluate(
        "(c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        " let n = 0; for (let i = 0; i < d.length; i += 4)"
        " n += Math.max(d[i], d[i + 1], d[i + 2]) - Math.min(d[i], d[i + 1], d[i + 2]) > 40;"
        " return n; })(document.getElementById('canvas'))"
    )


def test_drop_and_filter_without_another_request(page, port, tmp_path):
    pixels = image(128, 90, 120)
    before = metric(port, REQUESTS)
    drop(page, save(tmp_path / "gray.png", pixels))
    expected = as_json(FakeDetector()(pixels, score_threshold=0.1))
    assert text_of(page, "status").startswith("2 of 3 detections in gray.png, 120x90 pixels: ")
    drawn = []
    for threshold in (0.1, 0.5, 0.7, 1.0):
        set_threshold(page, threshold)
        shown = [one for one in expected if one["score"] > threshold]
        assert saved_detections(page)["detections"] == shown
        assert page.evaluate("document.querySelectorAll('tbody tr').length") == len(shown)
        drawn.append(colored_pixels(page))
    assert drawn[0] > drawn[1] > drawn[2] > drawn[3] == 0
    set_threshold(page, 0.1)
    page.evaluate("document.querySelectorAll('#classes input')[0].click()")
    names = [one["class_name"] for one in saved_detections(page)["detections"]]
    assert names == ["person", "traffic light"]
    page.evaluate("document.querySelectorAll('#classes button')[1].click()")  # None
    assert saved_detections(page)["detections"] == [] and colored_pixels(page) == 0
    page.evaluate("document.querySelectorAll('#classes button')[0].click()")  # All
    assert saved_detections(page)["detections"] == expected
    assert metric(port, REQUESTS) == before + 1


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize("value", range(1, 9))
def test_images_are_shown_as_the_server_reads_them(page, tmp_path, suffix, value):
    """Browsers apply the EXIF orientation of some formats only."""
    pixels = np.zeros((300, 600, 3), np.uint8)
    pixels[:150, :300] = 250  # one bright quarter
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100}, "png": {}}[suffix]
    path = save(tmp_path / f"image.{suffix}", pixels, exif=orientation(value), **options)
    drop(page, path)
    set_threshold(page, 1)
    expected = read_image(path)
    got = page.evaluate(
        "(c => [c.width, c.height, ...[[1, 1], [3, 1], [1, 3], [3, 3]].map(([x, y]) => c"
        ".getContext('2d').getImageData(c.width * x / 4, c.height * y / 4, 1, 1).data[0])])"
        "(document.getElementById('canvas'))"
    )
    height, width = expected.shape[:2]
    assert (got[0] > got[1]) == (width > height)
    quarters = [expected[height * y // 4, width * x // 4, 0] for y in (1, 3) for x in (1, 3)]
    assert [value > 128 for value in got[2:]] == [value > 128 for value in quarters]


def test_errors(page, port, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    drop(page, tmp_path / "text.png")
    assert text_of(page, "error").startswith("The file is not an image.")
    assert text_of(page, "status") == ""
    before = metric(port, REQUESTS)
    (tmp_path / "large.png").write_bytes(bytes(100_001))
    drop(page, tmp_path / "large.png")
    assert text_of(page, "error") == "large.png has more than 100000 bytes."
    assert metric(port, REQUESTS) == before  # it is not sent at all
    drop(page, save(tmp_path / "good.png", image()))
    assert text_of(page, "error") == ""


def test_formats_that_browsers_lack(page, tmp_path):
    drop(page, save(tmp_path / "image.tif", image()))
    assert text_of(page, "status").endswith("This browser cannot show the image.")
    assert len(saved_detections(page)["detections"]) == 2


def test_the_policy_allows_nothing_else(page, port):
    violations = page.evaluate(
        "new Promise(resolve => {"
        " document.addEventListener('securitypolicyviolation', e => resolve(e.effectiveDirective));"
        " const s = document.createElement('script'); s.textContent = 'window.injected = 1';"
        " document.body.append(s); })"
    )
    assert violations.startswith("script-src")
    assert page.evaluate("window.injected === undefined")


@pytest.mark.slow
def test_the_camera(tmp_path):
    """Chromium's camera for tests shows a pattern."""
    with live_server(batch_wait=0.0) as port, Chromium(
        CHROMIUM, tmp_path, flags=("--use-fake-device-for-media-stream",
                                   "--use-fake-ui-for-media-stream")
    ) as browser:  # fmt: skip
        browser.open(f"http://127.0.0.1:{port}/")
        browser.wait_for("!document.getElementById('camera').hidden")
        browser.evaluate("document.getElementById('camera').click()")
        browser.wait_for("document.getElementById('status').textContent.includes('camera')")
        end = time.monotonic() + 60
        while metric(port, REQUESTS) < 3:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert text_of(browser, "error") == ""
        browser.evaluate("document.getElementById('camera').click()")
        browser.wait_for("document.getElementById('main').getAttribute('aria-busy') === 'false'")
        count = metric(port, REQUESTS)
        time.sleep(1)  # several frames
        assert metric(port, REQUESTS) == count
        assert colored_pixels(browser) > 1000
