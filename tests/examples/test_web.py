"""examples/web in a headless Chromium: its detections are those of the runtime in Python."""

import base64
import functools
import http.server
import json
import re
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.examples.chromium import Chromium
from tests.examples.images import color_profile, gamma_chunk, noise, orientation, save_png
from tests.examples.model_copies import model_without_nodes, with_metadata
from tests.examples.web_page import (
    assert_same,
    choose,
    saved_detections,
    set_threshold,
    text_of,
    wait_for_answer,
    wait_until_idle,
)
from tests.helpers import ROOT
from tood_runtime.detector import RuntimeDetector
from tood_runtime.image_io import read_image

WEB = ROOT / "examples" / "web"
CLASSES = {"circle", "square", "triangle", "star", "cross"}
# Most of the detections: the last of the 100 that the file gives would depend on rounding.
THRESHOLD = 0.45
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
    pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js"),
    pytest.mark.skipif(
        not (WEB / "node_modules" / "onnxruntime-web").is_dir(),
        reason="needs onnxruntime-web: (cd examples/web && npm ci)",
    ),
]


@pytest.fixture(scope="module")
def site(exported_onnx, tmp_path_factory) -> Path:
    """The built page with a narrow model."""
    folder = tmp_path_factory.mktemp("web")
    build("--output", str(folder), str(exported_onnx.path))
    return folder


@pytest.fixture(scope="module")
def detector(site) -> RuntimeDetector:
    return RuntimeDetector(site / "model.onnx", threads=1)


@pytest.fixture(scope="module")
def url(site):
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Chromium(CHROMIUM, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def page(browser, url) -> Chromium:
    """The page with its model. Loading takes seconds, so tests share it."""
    model = "tiny: 5 classes (circle, square, triangle, star, cross), float32"
    if browser.evaluate("location.href") != url or text_of(browser, "model") != model:
        browser.open(url)
        wait_until_idle(browser)
    assert text_of(browser, "model") == model
    return browser


def build(*arguments: str, code: int = 0) -> str:
    command = ["node", str(WEB / "build.mjs"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("size", "options"),
    [
        pytest.param((96, 128, 3), {}, id="of the model's size"),
        pytest.param((97, 150, 3), {}, id="a little larger"),
        pytest.param((331, 240, 3), {}, id="larger"),
        pytest.param((40, 300, 3), {}, id="long, at the limit of the longer side"),
        pytest.param((31, 40, 3), {}, id="smaller"),
        pytest.param((96, 128, 4), {}, id="transparent"),
        pytest.param((96, 128, 3), {"pnginfo": gamma_chunk()}, id="with another gamma"),
        pytest.param((96, 128, 3), {"icc_profile": color_profile()}, id="with a color profile"),
        pytest.param((96, 128, 3), {"exif": orientation(6)}, id="turned"),
    ],
)
def test_detections_are_those_of_python(page, detector, tmp_path, size, options):
    path = save_png(tmp_path / "image.png", noise(*size), **options)
    expected = detector(path, score_threshold=THRESHOLD)
    choose(page, path)
    set_threshold(page, THRESHOLD)
    assert_same(saved_detections(page), expected, pixels=0.1)


@pytest.mark.parametrize(
    ("before", "after"),
    [((7, 5), (31, 12)), ((100, 64), (33, 64)), ((50, 301), (50, 97)), ((90, 91), (2, 1))],
)
def test_resize_is_pillows(page, before, after):
    pixels = np.random.default_rng(0).integers(0, 256, (*before, 3), np.uint8)
    expected = Image.fromarray(pixels).resize(after[::-1], Image.Resampling.BILINEAR)
    image = {"height": before[0], "width": before[1], "channels": 3}
    got = page.evaluate(
        "import('./resize.js').then(({ resizeBilinear }) => Array.from(resizeBilinear("
        f"{{data: Uint8Array.from({pixels.ravel().tolist()}), ...{json.dumps(image)}}}, "
        f"{after[0]}, {after[1]}).data))"
    )
    np.testing.assert_array_equal(np.reshape(got, (*after, 3)), np.asarray(expected))


@pytest.mark.parametrize(
    ("suffix", "value"),
    [*(("png", i) for i in (1, 2, 3)), *(("jpg", i) for i in (4, 5, 6)), ("webp", 7), ("webp", 8)],
)
def test_orientation_is_pillows(page, tmp_path, suffix, value):
    """Browsers apply the EXIF orientation of some formats only, and not always as they are told."""
    path = tmp_path / f"image.{suffix}"
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}
    Image.fromarray(noise(16, 24)).save(path, exif=orientation(value), **options.get(suffix, {}))
    data = base64.b64encode(path.read_bytes()).decode()
    for apply_orientation in (True, False):
        got = page.evaluate(
            "(async () => {"
            " const { decodeImage } = await import('./pixels.js');"
            f" const file = await (await fetch('data:;base64,{data}')).blob();"
            f" const image = await decodeImage(file, '', {json.dumps(apply_orientation)});"
            " return [image.height, image.width, Array.from(image.data)];"
            "})()"
        )
        expected = read_image(path, apply_orientation)
        assert tuple(got[:2]) == expected.shape[:2]
        difference = np.reshape(got[2], expected.shape) - expected.astype(int)
        assert np.abs(difference).max() <= (2 if suffix == "jpg" else 0)


def test_drop_and_threshold(page, detector, tmp_path):
    """A dropped image is detected at once; the slider selects by score."""
    path = save_png(tmp_path / "dropped.png", noise(96, 128))
    page.drop_files("#stage", [path])
    wait_for_answer(page)
    shown = []
    for threshold in (0.3, 0.5, 1.0):
        set_threshold(page, threshold)
        shown.append(len(saved_detections(page)["detections"]))
        assert shown[-1] == len(detector(path, score_threshold=threshold))
        assert shown[-1] == page.evaluate("document.querySelectorAll('tbody tr').length")
        assert re.search(
            rf"^{shown[-1]} of \d+ detections in dropped.png, 128x96 pixels: \d+ ms",
            text_of(page, "status"),
        )
    assert shown[0] > shown[1] > shown[2] == 0


def test_boxes_are_drawn(page, tmp_path):
    """The page shows the image, and boxes in the colors of their classes."""
    path = save_png(tmp_path / "gray.png", np.full((96, 128, 3), 128, np.uint8))
    choose(page, path)
    set_threshold(page, 1)
    count = (
        "(c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
        ".filter((v, i) => i % 4 !== 3 && Math.abs(v - 128) > 2).length)"
        "(document.getElementById('canvas'))"
    )
    assert page.evaluate(count) == 0
    set_threshold(page, THRESHOLD)
    assert page.evaluate(count) > 100


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "ONNX Runtime cannot load x.onnx: "),
        (None, "x.onnx has no metadata of TOOD, so its classes and input size are unknown."),
        ({"tood_format": "99"}, "x.onnx has metadata of format 99, and this page reads format 1."),
        ({"output": "raw"}, "x.onnx has raw output without NMS. Export it again without --raw."),
        ({"class_names": "["}, 'x.onnx has damaged metadata: "class_names". Export it again.'),
        (
            {"channel_order": "YUV-BT.601"},
            "x.onnx takes YUV-BT.601 pixels. Available: BGR, RGB, L.",
        ),
    ],
)
def test_models_that_cannot_run(page, exported_onnx, tmp_path, changes, message):
    """One sentence; the model that was loaded before still works."""
    texts = {} if changes is None else {**exported_onnx.info.to_strings(), **changes}
    choose(page, model_without_nodes(tmp_path / "x.onnx", texts))
    assert text_of(page, "error").startswith(message)
    choose(page, save_png(tmp_path / "image.png", noise(96, 128)))
    assert len(saved_detections(page)["detections"]) > 0


def test_damaged_files(page, site, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "text.onnx").write_text("no model")
    (tmp_path / "cut.onnx").write_bytes((site / "model.onnx").read_bytes()[:1000])
    for name, message in {
        "text.png": "text.png is not an image that this browser can decode.",
        "text.onnx": "text.onnx is not an ONNX file, or it is damaged.",
        "cut.onnx": "cut.onnx is not an ONNX file, or it is damaged.",
    }.items():
        choose(page, tmp_path / name)
        assert text_of(page, "error") == message
        assert text_of(page, "status") == ""


def test_another_model_can_be_chosen(page, site, tmp_path):
    """It replaces the first; all that the file says of its input counts."""
    changes = {
        "class_names": ["a", "b", "c", "d", "e"],
        "channel_order": "L",
        "apply_exif_orientation": False,
        "batch": 2,
        "height": 64,
        "width": 96,
    }
    model = with_metadata(site / "model.onnx", tmp_path / "other.onnx", changes)
    image = save_png(tmp_path / "image.png", noise(150, 100), exif=orientation(6))
    choose(page, image)
    assert {item["class"] for item in saved_detections(page)["detections"]} <= CLASSES
    choose(page, model)
    assert text_of(page, "model").startswith("tiny: 5 classes (a, b, c, d, e)")
    set_threshold(page, THRESHOLD)
    expected = RuntimeDetector(model, threads=1)(image, score_threshold=THRESHOLD)
    assert_same(saved_detections(page), expected, pixels=0.1)


def test_a_missing_model_is_named(browser, url, tmp_path):
    """?model= names a model; without any, the page says what to do."""
    browser.open(f"{url}?model=missing.onnx")
    wait_until_idle(browser)
    assert text_of(browser, "error") == "Cannot load missing.onnx: HTTP status 404."
    assert text_of(browser, "model").startswith("No model is loaded.")
    choose(browser, save_png(tmp_path / "image.png", noise(96, 128)))
    assert text_of(browser, "error").startswith("Choose a model first")


def test_build_needs_an_existing_model(tmp_path):
    output = build("--output", str(tmp_path), str(tmp_path / "none.onnx"), code=2)
    assert output == f"{tmp_path / 'none.onnx'} is not a file. Name an exported model (.onnx).\n"


def test_nothing_comes_from_other_servers():
    for path in (WEB / "src").iterdir():
        assert not re.search(r"https?:|//\w+\.\w+/", path.read_text()), path.name
