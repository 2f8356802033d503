"""The HTTP server under load from good, broken and rude clients; every good answer is compared."""

import http.client
import random
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tools.benchmark.serving import ask, summary
from tools.processes import family_mib
from tools.soak.machine import Report, running_tood, wait_for, write_images, write_model

NUM_CLIENTS, NUM_IMAGES = 6, 40


def soak_serving(folder: Path, minutes: float, generator: random.Random) -> Report:
    """Serve a small model to several clients, and stop it while they are busy.

    Args:
        folder: for everything.
        minutes: how long.
        generator: decides what the clients send.
    """
    report = Report()
    model = write_model(folder / "model")
    broken = write_images(folder / "images", NUM_IMAGES, seed=0)
    files = {path.name: path.read_bytes() for path in sorted((folder / "images").iterdir())}
    good = [data for name, data in files.items() if name not in broken]
    bad = [files[name] for name in broken]
    log = folder / "serve.log"
    with running_tood(["serve", str(model), "--port", "0", "--device", "cpu"], log) as process:
        port = _wait_for_port(process, log)
        clients = _Clients(port, good, bad, _reference(port, good), report)
        threads = [
            threading.Thread(target=clients.run, args=(random.Random(generator.random()),))
            for _ in range(NUM_CLIENTS)
        ]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end and process.poll() is None:
            report.memory.append(family_mib(process.pid))
            time.sleep(1)
        clients.is_stopping = True
        process.send_signal(signal.SIGTERM)
        code = wait_for(process, 120)
    for thread in threads:
        thread.join()
    if not report.events["answers"]:
        report.problems.append("there was no answer")
    if code not in (0, -signal.SIGTERM):  # Uvicorn ends by the signal, after the last answer
        report.problems.append(f"the server ended with {code}; see {log}")
    if "Traceback" in log.read_text():
        report.problems.append(f"the server wrote a traceback; see {log}")
    report.check_memory()
    return report


def _reference(port: int, images: list[bytes]) -> list[object]:
    """The detections of each image, asked one by one; they must tell the images apart."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    found = []
    for data in images:
        status, body = ask(connection, "POST", "/detect", data)
        if status != 200:
            raise RuntimeError(f"the server answers an image with {status}: {body[:200]!r}")
        found.append(summary(body))
    if len({repr(x) for x in found}) < len(found):
        raise RuntimeError("images have the same detections, so exchanged answers would be missed")
    return found


def _wait_for_port(process: subprocess.Popen[bytes], log: Path) -> int:
    while process.poll() is None:
        found = re.search(r" at http://127\.0\.0\.1:(\d+)/ ", log.read_text())
        if found:
            return int(found[1])
        time.sleep(0.2)
    raise RuntimeError(f"the server does not start; see {log}")


class _Clients:
    """What the clients do; their threads share it.

    Attributes:
        is_stopping: whether the server is being stopped, so that connections may be refused.
    """

    def __init__(
        self, port: int, good: list[bytes], bad: list[bytes], expected: list[object], report: Report
    ) -> None:
        self._port, self._good, self._bad, self._expected = port, good, bad, expected
        self._report, self._lock = report, threading.Lock()
        self.is_stopping = False

    def run(self, generator: random.Random) -> None:
        """Behave well four times of five, until the server stops."""
        rude: list[tuple[str, Callable[[random.Random], None]]] = [
            ("broken images", self._send_broken),
            ("broken requests", self._send_nonsense),
            ("hang-ups", self._hang_up),
            ("slow clients", self._send_slowly),
        ]
        while not self.is_stopping:
            name, act = ("answers", self._send_good)
            if generator.random() < 0.2:
                name, act = generator.choice(rude)
            try:
                act(generator)
            except Exception as error:  # whatever it is, a client did not get what it asked for
                if not self.is_stopping:
                    self._complain(f"{name}: {type(error).__name__} {error}")
            else:
                with self._lock:
                    self._report.events[name] += 1

    def _send_good(self, generator: random.Random) -> None:
        index = generator.randrange(len(self._good))
        status, body = self._post(self._good[index])
        if status == 503 and self.is_stopping:
            return
        if status != 200 or summary(body) != self._expected[index]:
            self._complain(f"image {index}: status {status}, or other detections")

    def _send_broken(self, generator: random.Random) -> None:
        status, _ = self._post(generator.choice(self._bad))
        if not 400 <= status < 500 and not self.is_stopping:
            self._complain(f"a broken image: status {status}")

    def _send_nonsense(self, generator: random.Random) -> None:
        with self._connect() as connection:
            connection.sendall(generator.randbytes(200) + b"\r\n\r\n")
            answer = connection.recv(1000)
        if answer and b" 400 " not in answer.partition(b"\r\n")[0]:
            self._complain(f"nonsense: {answer[:40]!r}")

    def _hang_up(self, generator: random.Random) -> None:
        with self._connect() as connection:
            body = generator.choice(self._good)
            connection.sendall(_head(len(body)) + body[: len(body) // 2])

    def _send_slowly(self, generator: random.Random) -> None:
        body = generator.choice(self._good)
        with self._connect() as connection:
            connection.sendall(_head(len(body)))
            for start in range(0, len(body), len(body) // 5 + 1):
                connection.sendall(body[start : start + len(body) // 5 + 1])
                time.sleep(0.2)
            answer = connection.recv(100)
        if b" 200 " not in answer and not self.is_stopping:
            self._complain(f"a slow client: {answer[:40]!r}")

    def _post(self, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        try:
            return ask(connection, "POST", "/detect", body)
        finally:
            connection.close()

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), timeout=120)

    def _complain(self, problem: str) -> None:
        with self._lock:
            if len(self._report.problems) < 20:
                self._report.problems.append(problem)


def _head(length: int) -> bytes:
    lines = ["POST /detect HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {length}"]
    return ("\r\n".join([*lines, "Content-Type: image/png"]) + "\r\n\r\n").encode()
