"""``python -m tood_runtime.serving`` in a process of its own, with a real model and no PyTorch."""

import contextlib
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.examples.images import noise
from tests.helpers import ROOT
from tests.runtime.serving.fake_detector import encoded
from tests.runtime.serving.live_server import detect, metric, request, wait_for
from tests.runtime.serving.test_limits import bomb
from tests.runtime.test_no_torch import BLOCK
from tood_runtime.detector import RuntimeDetector
from tood_runtime.serving import __main__ as program

pytest.importorskip("uvicorn")
pytest.importorskip("fastapi")

RUN = f"{BLOCK}\nimport runpy\nrunpy.run_module('tood_runtime.serving', run_name='__main__')"
THRESHOLD = 0.4


@contextlib.contextmanager
def running(*arguments):
    """Start the program; gives its process and port."""
    command = [sys.executable, "-c", RUN, *map(str, arguments), "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stderr.readline()
            port = int(re.search(r" at http://127\.0\.0\.1:(\d+)/ ", line)[1])
            wait_for(lambda: request(port, "GET", "/healthz")[0] == 200)
            yield process, port
        finally:
            process.kill()


def assert_same(content: dict, expected) -> None:
    """The detections of an image, which may come in another order where scores are near ties."""
    height, width = expected.image_size
    assert content["image"] == {"width": width, "height": height}
    found = content["detections"]
    assert len(found) == len(expected) >= 2
    boxes = np.array([one["box"] for one in found]).reshape(-1, 4)
    scores = np.array([one["score"] for one in found])
    classes = np.array([one["class_id"] for one in found])
    rows = zip(expected.xyxy, expected.confidence, expected.class_id, strict=True)
    for box, score, class_id in rows:
        same = (
            (classes == class_id)
            & (np.abs(boxes - box).max(1) < 0.01)
            & (np.abs(scores - score) < 1e-5)
        )
        assert same.any(), (box, score)


def peak_memory(process) -> float:
    """Megabytes that a process had at most."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1000


def test_serves_and_stops(exported_onnx):
    pixels = noise(90, 120)
    expected = RuntimeDetector(exported_onnx.path, threads=1)(pixels, score_threshold=THRESHOLD)
    threshold = ("--score-threshold", THRESHOLD)
    with running(exported_onnx.path, *threshold, "--threads", 1) as (process, port):
        status, content = detect(port, encoded(pixels))
        assert status == 200
        assert_same(content, expected)
        assert request(port, "GET", "/")[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)
        assert "Traceback" not in process.stderr.read()


@pytest.mark.slow
def test_load(exported_onnx):
    """100 clients at once: no request is lost, none gets another's result, memory is bounded."""
    sizes = np.random.default_rng(0).integers(30, 200, (100, 2)).tolist()
    images = [noise(*size) for size in sizes]
    files = [encoded(pixels) for pixels in images]
    detector = RuntimeDetector(exported_onnx.path, threads=1)
    expected = [detector(pixels, score_threshold=THRESHOLD) for pixels in images]
    options = ("--score-threshold", THRESHOLD, "--threads", 1, "--batch-size", 8)
    with running(exported_onnx.path, *options) as (process, port), ThreadPoolExecutor(100) as pool:
        barrier = threading.Barrier(100)

        def work(index):
            barrier.wait()
            return detect(port, files[index])

        memory = []
        for _ in range(6):
            answers = list(pool.map(work, range(100)))
            for (status, content), one in zip(answers, expected, strict=True):
                assert status == 200, content
                assert_same(content, one)
            memory.append(peak_memory(process))
        assert memory[-1] < memory[1] + 30, memory
        assert metric(port, "tood_images_total") == 601
        assert metric(port, "tood_batch_size_count") < 500
        refuse_all(port, pool)
        assert peak_memory(process) < memory[-1] + 200  # eight bodies of 20 MB at once
        status, content = detect(port, files[0])
        assert_same(content, expected[0])


def refuse_all(port, pool) -> None:
    """What nobody should send, eight times at once."""
    assert detect(port, bomb())[0] == 413
    assert detect(port, b"a text")[0] == 415
    zeros = bytes(1 << 20)
    head = b"POST /detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    bodies = [
        (b"Content-Length: 2000000000\r\n\r\n", zeros),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"100000\r\n" + zeros + b"\r\n"),
    ]

    def upload(index):
        start, chunk = bodies[index % 2]
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(head + start)
            with pytest.raises(ConnectionError):
                for _ in range(2000):
                    connection.sendall(chunk)
            return connection.recv(65536)

    for received in pool.map(upload, range(8)):
        assert received.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "70000"], "'70000' is not a port"),
        (["--batch-wait", "-1"], "'-1' is not a number above 0"),
        (["--batch-size", "0"], "'0' is not a whole number"),
        (["--max-megapixels", "500"], "max_pixels must be at most 170000000"),
        (["--classes", "dog"], "Unknown classes 'dog'"),
        (["--score-threshold", "0.001"], "score_threshold 0.001 is below"),
        (["--host", "no-such-host.invalid"], "Cannot listen at no-such-host.invalid, port 8000: "),
        (["--ports", "1"], "Unknown option --ports. Did you mean --port?"),
    ],
)
def test_user_errors(exported_onnx, capsys, options, message):
    assert program.main([str(exported_onnx.path), *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_missing_packages(exported_onnx, capsys, monkeypatch):
    for package in ("fastapi", "prometheus_client", "uvicorn"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            assert program.main([str(exported_onnx.path), "--port", "0"]) == 2
        error = capsys.readouterr().err
        assert f"error: The server needs the package {package}, which" in error
        assert 'pip install "tood-detectron2[serve]"' in error


def test_port_in_use(exported_onnx, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert program.main([str(exported_onnx.path), "--port", str(port)]) == 2
    assert f"Cannot listen at 127.0.0.1, port {port}: " in capsys.readouterr().err
