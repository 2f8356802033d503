"""A real server, used by clients that keep to no rules."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.runtime.serving.fake_detector import FakeDetector, as_json, encoded, image
from tests.runtime.serving.live_server import (
    detect,
    live_server,
    metric,
    request,
    send_raw,
    wait_for,
)
from tood_runtime.serving import server as server_module
from tood_runtime.serving.errors import ServerError

pytest.importorskip("uvicorn")
pytest.importorskip("fastapi")

HEAD = b"POST /detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"


@pytest.fixture(scope="module")
def port():
    with live_server(max_body_bytes=100_000, body_timeout=1.0, batch_wait=0.0) as port:
        yield port


@pytest.fixture(autouse=True)
def works_afterwards(port):
    yield
    pixels = image(33)
    status, content = detect(port, encoded(pixels))
    assert (status, content["detections"]) == (200, as_json(FakeDetector()(pixels)))
    wait_for(lambda: metric(port, "tood_active_requests") == 0)


def test_connections_are_kept(port):
    data = encoded(image())
    one = HEAD + b"Content-Length: %d\r\n\r\n" % len(data) + data
    last = one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
    assert send_raw(port, one + one + last).count(b"HTTP/1.1 200 OK") == 3


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET\r\n\r\n",
        b"POST /detect HTTP/1.1\r\n\r\n",  # without a host
        HEAD + b"Content-Length: -5\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        HEAD + b"Content-Length: five\r\n\r\n",
        HEAD + b"X: " + b"a" * 1_000_000 + b"\r\n\r\n",
        HEAD + b"X: a\r\n" * 30_000 + b"\r\n\r\n",
        HEAD + b"X : a\r\n\r\n",
        HEAD + b"X: \x00\r\n\r\n",
    ],
)
def test_requests_that_are_none(port, data):
    assert send_raw(port, data).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "rest",
    [
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcdefgh\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffffffff\r\nabc",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\nabc",
        b"Content-Length: 100\r\n\r\nabc",  # and no more
    ],
)
def test_bodies_that_end_early(port, rest):
    received = send_raw(port, HEAD + rest, end=True)
    assert received == b"" or received[9:12] in (b"400", b"408")


def test_more_than_the_content_length(port):
    received = send_raw(port, HEAD + b"Content-Length: 3\r\n\r\nabc" + b"more\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 415 ") and b"HTTP/1.1 400 " in received


def test_too_much_is_refused_at_once_and_the_client_can_read_why(port):
    """A client that sends gigabytes without waiting for an answer."""
    for head, chunk in (
        (b"Content-Length: 2000000000\r\n\r\n", bytes(1 << 16)),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + bytes(1 << 16) + b"\r\n"),
    ):
        start = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(HEAD + head)
            try:
                for _ in range(2_000_000_000 >> 16):
                    connection.sendall(chunk)
            except ConnectionError:
                pass
            else:
                pytest.fail("everything was taken")
            received = connection.recv(65536)
        assert received.startswith(b"HTTP/1.1 413 ")
        assert time.monotonic() - start < 15
    head = b"Content-Length: 2000000000\r\nExpect: 100-continue\r\n\r\n"
    assert send_raw(port, HEAD + head).startswith(b"HTTP/1.1 413 ")


def test_clients_that_go_away(port):
    data = encoded(image())
    whole = HEAD + b"Content-Length: %d\r\n\r\n" % len(data) + data
    for part in (10, len(HEAD) + 5, len(whole) - 5, len(whole)):
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(whole[:part])


def test_a_client_that_has_gone_is_not_waited_for():
    detector = FakeDetector()
    data = encoded(image())
    with live_server(detector, batch_size=1, batch_wait=0.0) as port, ThreadPoolExecutor(1) as pool:
        detector.started.clear()
        detector.may_run.clear()
        running = pool.submit(detect, port, data)
        assert detector.started.wait(10)
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(data) + data)
                wait_for(lambda: metric(port, "tood_queue_length") == 1)
            wait_for(lambda: metric(port, "tood_queue_length") == 0)
        detector.may_run.set()
        assert running.result()[0] == 200
        assert metric(port, "tood_images_total") == 2  # with the first, to warm up


def test_slow_bodies(port):
    received = send_raw(port, HEAD + b"Content-Length: 100\r\n\r\nabc")
    assert received.startswith(b"HTTP/1.1 408 ")


def test_slow_headers(port, monkeypatch):
    monkeypatch.setattr(server_module, "_HEADER_SECONDS", 0.3)
    data = encoded(image())
    whole = HEAD + b"Content-Length: %d\r\n\r\n" % len(data) + data
    for before in (b"", whole):  # also in the second request of a connection
        start = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(before + HEAD[:1])
            received = b""
            try:
                for byte in HEAD[1:]:
                    time.sleep(0.05)
                    connection.sendall(bytes([byte]))
                while chunk := connection.recv(65536):
                    received += chunk
            except ConnectionError:
                pass
        assert time.monotonic() - start < 3


def test_a_client_that_takes_no_response(port, monkeypatch):
    monkeypatch.setattr(server_module, "_WRITE_SECONDS", 0.3)
    noise = np.random.default_rng(0).integers(0, 256, (150, 150, 3)).astype(np.uint8)
    data = encoded(noise)
    head = HEAD.replace(b"/detect", b"/detect?format=png")
    whole = head + b"Content-Length: %d\r\n\r\n" % len(data) + data
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", port))
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                connection.sendall(whole)


def test_stopping_finishes_what_is_accepted():
    detector = FakeDetector()
    with ThreadPoolExecutor(6) as pool:
        with live_server(detector, batch_size=2, batch_wait=0.01) as port:
            detector.may_run.clear()
            pixels = [image(10 * i) for i in range(6)]
            running = [pool.submit(detect, port, encoded(one)) for one in pixels]
            wait_for(lambda: metric(port, "tood_active_requests") == 6)
            threading.Timer(0.3, detector.may_run.set).start()
        for one, answer in zip(pixels, running, strict=True):
            status, content = answer.result()
            assert (status, content["detections"]) == (200, as_json(FakeDetector()(one)))
    assert not [thread for thread in threading.enumerate() if thread.name == "detector"][1:]


def test_a_hundred_clients_at_once():
    """None is lost, and everybody gets the detections of its own image and options."""
    generator = np.random.default_rng(0)
    shapes = generator.integers(8, 100, (100, 2))
    pixels = [image(i + 50, *map(int, shape)) for i, shape in enumerate(shapes)]
    options = [{"score_threshold": (0.2, 0.5)[i % 2]} for i in range(100)]
    barrier = threading.Barrier(100)

    def work(index):
        barrier.wait()
        query = f"?score_threshold={options[index]['score_threshold']}"
        return [detect(port, encoded(pixels[index]), query) for _ in range(3)]

    with live_server(FakeDetector(seconds=0.002), batch_size=8) as port:
        with ThreadPoolExecutor(100) as pool:
            answers = list(pool.map(work, range(100)))
        assert metric(port, "tood_batch_size_count") < 290  # some have shared a batch
    for one, option, three in zip(pixels, options, answers, strict=True):
        expected = as_json(FakeDetector()(one, **option))
        for status, content in three:
            assert (status, content["detections"]) == (200, expected)
            assert content["image"] == {"width": one.shape[1], "height": one.shape[0]}


def test_addresses_that_cannot_be_listened_at(port):
    for host, number, reason in (
        ("127.0.0.1", port, "already in use"),
        ("192.0.2.1", 0, "not one|assign"),
        ("no-such-host.invalid", 0, ""),
    ):
        with pytest.raises(
            ServerError, match=f"Cannot listen at {host}, port {number}: .*{reason}"
        ):
            server_module.listen(host, number)


def test_responses_are_json(port):
    status, headers, content = request(port, "GET", "/nothing")
    assert (status, headers["content-type"]) == (404, "application/json")
    assert "server" not in headers and json.loads(content) == {"error": "Not Found."}


@pytest.mark.parametrize("trusted", [(), ("127.0.0.1",)])
def test_clients_behind_a_proxy(trusted):
    """Only a trusted proxy may say who the client is."""
    data = encoded(image())
    with live_server(trusted_proxies=trusted, rate_limit=0.01) as port:
        for client, status in (("a", 200), ("b", 200 if trusted else 429), ("a", 429)):
            assert detect(port, data, **{"X-Forwarded-For": client})[0] == status
