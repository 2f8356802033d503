"""Notices what a reader of files must not do: run programs or code, write elsewhere, connect."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType
from typing import Any

# In the source of all code that the mutations plant.
CANARY = "tood_fuzz_canary"

_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PROGRAMS = (
    *("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn"),
    *("subprocess.Popen", "pty.spawn", "os.kill", "os.killpg", "webbrowser.open"),
)
_NETWORK = (
    *("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"),
    *("socket.bind", "urllib.Request", "http.client.connect", "ftplib.connect"),
)
# Events whose first arguments are the paths that are changed.
_CHANGES = {
    **dict.fromkeys(("os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.utime"), 1),
    **dict.fromkeys(("os.chmod", "os.chown", "os.setxattr", "os.removexattr", "os.mkfifo"), 1),
    **dict.fromkeys(("os.rename", "os.link", "shutil.move", "shutil.copyfile"), 2),
    **dict.fromkeys(("shutil.rmtree", "shutil.chown", "shutil.make_archive"), 1),
}
_IGNORED = ("/dev/null", "/dev/tty")


class ForbiddenAction(BaseException):
    """Ends a case; not an Exception, so that no reader turns it into an error of its own."""


class Auditor:
    """Records forbidden actions while it is active, and keeps them from happening.

    Python's audit events are all that it sees: a library in C can open files without one.

    Args:
        allowed: folders that may be written.
        case_folder: code from there must not run.

    Attributes:
        active: whether it records.
        events: one line per forbidden action.
    """

    def __init__(self, allowed: Sequence[Path], case_folder: Path) -> None:
        self.active = False
        self.events: list[str] = []
        self._allowed = [os.path.realpath(path) for path in allowed]
        self._case_folder = str(case_folder)
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active:
            return
        # Off while it thinks: what it calls raises events too.
        self.active = False
        try:
            problem = self._problem(event, arguments)
        finally:
            self.active = True
        if problem:
            self.events.append(problem[:300])
            raise ForbiddenAction(problem[:300])

    def _problem(self, event: str, arguments: tuple[Any, ...]) -> str:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITE_FLAGS and self._is_outside(path):
                return f"writes {path!r}"
        elif event in _CHANGES:
            for path in arguments[: _CHANGES[event]]:
                if self._is_outside(path):
                    return f"{event} {path!r}"
        elif event == "os.symlink":
            return f"os.symlink {arguments[1]!r}" if self._is_outside(arguments[1]) else ""
        elif event in _PROGRAMS:
            return f"runs a program: {event} {arguments!r}"
        elif event in _NETWORK:
            return f"uses the network: {event} {arguments!r}"
        elif event == "exec":
            return self._code_problem(arguments[0])
        elif event == "compile":
            source = arguments[0]
            text = source.decode("utf-8", "replace") if isinstance(source, bytes) else source
            if isinstance(text, str) and CANARY in text:
                return "compiles code from the file"
        elif event == "pickle.find_class":
            return f"unpickles {arguments[1]}.{arguments[2]}"
        elif event in ("import", "ctypes.dlopen"):
            name = next((x for x in arguments[:2] if isinstance(x, str) and os.sep in x), "")
            if name.startswith(self._case_folder):
                return f"{event} of {name}"
        return ""

    def _code_problem(self, code: object) -> str:
        if not isinstance(code, CodeType):
            return ""
        if code.co_filename.startswith(self._case_folder):
            return f"runs code of {code.co_filename}"
        words = (*code.co_names, *(x for x in code.co_consts if isinstance(x, str)))
        return "runs code from the file" if any(CANARY in word for word in words) else ""

    def _is_outside(self, path: object) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False  # a descriptor, which was opened before
        name = os.path.realpath(os.fsdecode(path))
        if name in _IGNORED:
            return False
        return not any(name == root or name.startswith(f"{root}{os.sep}") for root in self._allowed)
