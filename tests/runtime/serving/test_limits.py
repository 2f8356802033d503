"""Bodies, images and numbers of requests beyond the limits."""

import asyncio
import gc
import io
import struct
import time
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from tests.runtime.serving.fake_detector import FakeDetector, as_json, encoded, image
from tests.runtime.serving.test_app import detect, error_of
from tood_runtime.image_io import read_image
from tood_runtime.serving import guard


def test_size_of_a_body(make_client):
    data = encoded(np.random.default_rng(0).integers(0, 256, (50, 50, 3)).astype(np.uint8))
    client = make_client(max_body_bytes=len(data))
    assert detect(client, data).status_code == 200
    assert client.post("/detect", files={"file": data}).status_code == 200

    def chunks(size):
        for start in range(0, size, 1000):
            yield b"x" * min(1000, size - start)

    message = f"The request has more than {len(data):,} bytes."
    assert error_of(detect(client, data + b"x"), 413) == message
    assert error_of(detect(client, chunks(len(data) + 1)), 413) == message  # no Content-Length
    assert error_of(client.post("/detect", files={"file": data + b"x"}), 413) == message
    big = client.post("/detect", files={"file": data}, data={"a": "b" * 10_000})
    error_of(big, 413)


def test_memory_of_all_bodies(make_client):
    data = encoded(image())
    client = make_client(max_total_bytes=len(data))
    assert detect(client, data).status_code == 200
    response = detect(client, data + b"x")
    assert "too much data" in error_of(response, 503) and response.headers["retry-after"] == "1"
    assert detect(client, data).status_code == 200  # what was taken is given back


def test_number_of_requests(make_client):
    detector = FakeDetector(seconds=0.2)
    client = make_client(detector, queue_size=2, batch_size=1)
    detector.started.clear()
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(detect, client, encoded(image())) for _ in range(2)]
        detector.started.wait()
        while "tood_active_requests 2.0" not in client.get("/metrics").text:
            time.sleep(0.01)
        response = detect(client, encoded(image()))
        assert "busy" in error_of(response, 503) and response.headers["retry-after"] == "1"
    assert [one.result().status_code for one in running] == [200, 200]
    assert detect(client, encoded(image())).status_code == 200


def bomb(width=60_000, height=60_000) -> bytes:
    """A PNG file of 10 MB at most whose pixels need gigabytes."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    lines = zlib.compress(b"\0" * 1_000_000, 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bombs(make_client):
    client = make_client(max_pixels=10_000)
    assert detect(client, encoded(image(1, 100, 100))).status_code == 200
    message = error_of(detect(client, encoded(image(1, 100, 101))), 413)
    assert message == "The image has more than 10,000 pixels: 101x100."
    assert "10,000 pixels" in error_of(detect(client, bomb()), 413)
    assert "10,000 pixels" in error_of(detect(client, bomb(12_000, 9_000)), 413)
    assert "10,000 pixels" in error_of(detect(client, encoded(image(1, 200, 200), "GIF")), 413)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_truncated_images(client, image_format):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    data = encoded(noise, image_format)
    for size in (8, 30, len(data) // 2, len(data) * 3 // 4):
        response = detect(client, data[:size])
        assert response.status_code in (415, 422)
        error_of(response, response.status_code)


def test_formats_that_run_programs_are_refused(client):
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    assert "is not an image" in error_of(detect(client, script), 415)
    assert Image.open(io.BytesIO(script)).format == "EPS"  # which Pillow would have read


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize(
    ("data", "size"),
    [
        pytest.param(encoded(image(9, 1, 1)), (1, 1), id="one pixel"),
        pytest.param(encoded(image(9, 1, 3000)), (3000, 1), id="one row"),
        pytest.param(encoded(image(9, 20, 30), exif=turned()), (20, 30), id="EXIF"),
        pytest.param(encoded(image(9, 20, 30), "JPEG", exif=turned()), (20, 30), id="EXIF JPEG"),
        pytest.param(
            encoded(Image.fromarray(np.full((20, 30), 0x4321, np.uint16))), (30, 20), id="16 bit"
        ),
        pytest.param(
            encoded(
                Image.fromarray(image(9)),
                "GIF",
                save_all=True,
                append_images=[Image.fromarray(image(200))] * 3,
            ),
            (30, 20),
            id="animated",
        ),
        pytest.param(
            encoded(Image.new("CMYK", (30, 20), (9, 8, 7, 6)), "JPEG"), (30, 20), id="CMYK"
        ),
        pytest.param(encoded(Image.new("RGBA", (30, 20), (9, 8, 7, 0))), (30, 20), id="alpha"),
        pytest.param(encoded(Image.new("P", (30, 20), 3)), (30, 20), id="palette"),
        pytest.param(encoded(Image.new("L", (30, 20), 3), "WEBP"), (30, 20), id="WebP"),
    ],
)
def test_images_of_all_kinds_are_read_as_files_are(client, tmp_path, data, size):
    path = tmp_path / "image"
    path.write_bytes(data)
    content = detect(client, data).json()
    assert (content["image"]["width"], content["image"]["height"]) == size
    assert content["detections"] == as_json(FakeDetector()(read_image(path)))


def test_pixels_that_are_no_colors(client):
    data = encoded(Image.new("F", (30, 20)), "TIFF")
    message = error_of(detect(client, data), 422)
    assert message.startswith("Cannot read the image: its pixels are floating-point numbers")


SCOPE = {
    "type": "http", "method": "POST", "path": "/detect", "raw_path": b"/detect",
    "query_string": b"", "headers": [(b"content-type", b"image/png")],
    "client": ("192.0.2.1", 1), "server": ("testserver", 80), "scheme": "http",
    "http_version": "1.1", "asgi": {"version": "3.0"}, "root_path": "",
}  # fmt: skip


def test_a_slow_client(make_client, monkeypatch):
    """The test client collects a body before it sends it, so the app is called without it."""
    monkeypatch.setattr(guard, "_DRAIN_SECONDS", 0.1)
    app = make_client(body_timeout=0.2).app
    sent = []

    async def receive():
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message):
        sent.append(message)

    asyncio.run(app(dict(SCOPE), receive, send))
    assert sent[0]["status"] == 408
    assert b"did not come within 0.2 seconds" in sent[1]["body"]
    assert (b"connection", b"close") in sent[0]["headers"]


@pytest.mark.parametrize(("more", "status"), [(False, 415), (True, 413)])
def test_refused_bodies_are_freed_at_once(make_client, monkeypatch, more, status):
    """An error, its traceback and a task can hold each other, and with them the body."""
    monkeypatch.setattr(guard, "_DRAIN_SECONDS", 0.01)
    app = make_client(max_body_bytes=2_500_000).app
    statuses = []

    async def call():
        count = 0

        async def receive():
            nonlocal count
            count += 1
            if count > 1 + more:
                await asyncio.sleep(10)
            return {"type": "http.request", "body": b"x" * 2_000_000, "more_body": more}

        async def send(message):
            statuses.append(message.get("status"))

        await app(dict(SCOPE), receive, send)

    async def call_often():
        await call()
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            for _ in range(5):
                await call()
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
            gc.enable()

    assert asyncio.run(call_often()) < 1_000_000
    assert [one for one in statuses if one is not None] == [status] * 6
