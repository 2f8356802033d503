"""Drives a headless Chromium over its debugging pipe, without further packages."""

import contextlib
import fcntl
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",  # WebGL without a GPU
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,900",
    # A page that needs another server than its own fails.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)

# Chromium reads commands from file descriptor 3 and writes answers to 4.
_START = (
    "import os, sys\n"
    "os.dup2(int(sys.argv[1]), 3)\n"
    "os.dup2(int(sys.argv[2]), 4)\n"
    "os.execv(sys.argv[3], sys.argv[3:])"
)


class Chromium:
    """A browser with one page; a context manager.

    Args:
        executable: path of Chromium.
        folder: an empty folder for its profile.
        timeout: seconds to wait for an answer.
        flags: more flags.

    Attributes:
        events: what the browser has reported, of the domains that were enabled.
    """

    def __init__(
        self, executable: str, folder: Path, timeout: float = 120, flags: Sequence[str] = ()
    ) -> None:
        self.timeout = timeout
        self.events: list[dict[str, Any]] = []
        self._ids = itertools.count(1)
        self._received = b""
        command_read, self._write = _high_pipe()
        self._read, answer_write = _high_pipe()
        arguments = [
            executable,
            *FLAGS,
            *flags,
            f"--user-data-dir={folder}",
            "--remote-debugging-pipe",
        ]
        start = [sys.executable, "-c", _START, str(command_read), str(answer_write)]
        self._process = subprocess.Popen(
            [*start, *arguments],
            pass_fds=(command_read, answer_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "HOME": str(folder)},
        )
        os.close(command_read)
        os.close(answer_write)

    def __enter__(self) -> "Chromium":
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._read)
        os.close(self._write)

    def send(self, method: str, session: str | None = None, **params: object) -> dict[str, Any]:
        """Send a command of the DevTools protocol, and return its result.

        Raises:
            RuntimeError: the browser answers with an error.
            TimeoutError: it does not answer in time, or has ended.
        """
        number = next(self._ids)
        message: dict[str, object] = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        deadline = time.monotonic() + self.timeout
        while True:
            answer = self._receive(deadline, method)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def _receive(self, deadline: float, method: str) -> dict[str, Any]:
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._read], [], [], max(0, deadline - time.monotonic()))
            data = os.read(self._read, 1 << 16) if ready else b""
            if not data:
                raise TimeoutError(f"Chromium does not answer {method}.")
            self._received += data
        line, _, self._received = self._received.partition(b"\0")
        return json.loads(line)

    def command(self, method: str, **params: object) -> dict[str, Any]:
        """Send a command to the page; see `send`."""
        return self.send(method, self._session, **params)

    def open(self, url: str) -> None:
        """Load a page."""
        self.send("Page.navigate", self._session, url=url)
        self.wait_for(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """Evaluate a JavaScript expression in the page, and wait for it if it is a promise."""
        result = self.send(
            "Runtime.evaluate",
            self._session,
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
        )
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + self.timeout
        while not self.evaluate(expression):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{expression} did not become true.")
            time.sleep(0.05)

    def choose_files(self, selector: str, files: Sequence[Path]) -> None:
        """Choose files in a file input."""
        expression = f"document.querySelector({json.dumps(selector)})"
        found = self.send("Runtime.evaluate", self._session, expression=expression)
        names = [str(file) for file in files]
        object_id = found["result"]["objectId"]
        self.send("DOM.setFileInputFiles", self._session, files=names, objectId=object_id)

    def drop_files(self, selector: str, files: Sequence[Path]) -> None:
        """Drag files onto the middle of an element, and drop them."""
        x, y = self.evaluate(
            f"(r => [r.x + r.width / 2, r.y + r.height / 2])"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.send("Input.dispatchDragEvent", self._session, type=kind, x=x, y=y, data=data)


def _high_pipe() -> tuple[int, int]:
    """A pipe whose descriptors cannot collide with those that Chromium expects."""
    ends = []
    for end in os.pipe():
        ends.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10))
        os.close(end)
    return ends[0], ends[1]
