"""A real server in a thread, and clients of it that use sockets."""

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

from tests.runtime.serving.fake_detector import FakeDetector
from tood_runtime.serving import ServingSettings, create_app
from tood_runtime.serving.server import listen, make_server


@contextlib.contextmanager
def live_server(detector=None, trusted_proxies=(), **settings) -> Iterator[int]:
    """Serve on loopback; gives the port."""
    settings = ServingSettings(**settings)
    app = create_app(detector or FakeDetector(), settings)
    server = make_server(app, settings.queue_size, trusted_proxies)
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        port = listener.getsockname()[1]
        try:
            while request(port, "GET", "/healthz")[0] != 200:
                time.sleep(0.01)
            yield port
        finally:
            server.should_exit = True
            thread.join()


def request(port, method, path, body=None, headers=None, timeout=60) -> tuple[int, dict, bytes]:
    """Send a request over a new connection; gives status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, dict(response.headers), response.read()
    finally:
        connection.close()


def detect(port, data, query="", **headers) -> tuple[int, dict]:
    """Detect objects in an image; gives status and content."""
    headers = {"Content-Type": "image/png", **headers}
    status, _, content = request(port, "POST", f"/detect{query}", data, headers)
    return status, json.loads(content)


def send_raw(port, data: bytes, *, end: bool = False, timeout: float = 20) -> bytes:
    """Send bytes and receive until the server closes the connection, or answers once.

    Args:
        port: of the server.
        data: to send.
        end: whether nothing more will come.
        timeout: seconds to wait.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
            if end:
                connection.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(ConnectionError):
            while chunk := connection.recv(65536):
                received += chunk
        return received


def wait_for(is_true: Callable[[], bool]) -> None:
    """Wait until something is true, 20 seconds at most."""
    deadline = time.monotonic() + 20
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def metric(port, name: str) -> float:
    """The value of a metric; 0 before it has one."""
    text = request(port, "GET", "/metrics")[2].decode()
    return sum(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))
