"""Readers that do what no reader may do, for the tests of the watcher. They import little."""

import ctypes
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from tools.fuzz.readers.worker import Step


class OwnError(Exception):
    pass


OWN_ERRORS = (OwnError,)
_kept = []


def _refuse():
    raise OwnError("The file is damaged. Write it again.")


def _refuse_out_of_memory():
    try:
        raise MemoryError
    except MemoryError as error:
        raise OwnError("The file is damaged. Write it again.") from error


def _eat_memory():
    _kept.append(bytearray(os.urandom(1)) * 400_000_000)


def _eat_and_release():
    return len(bytearray(b"x") * 400_000_000)


def _compute():
    while True:
        pass


def _write_through_link(folder):
    (folder / "link").symlink_to("/tmp")  # as a link in a dataset
    (folder / "link" / "tood_fuzz_written").write_text("x")


def _write_unseen(folder):
    """As a library in C does, without an audit event."""
    ctypes.CDLL(None).creat(str(folder.parent / "unseen").encode(), 0o600)


def _import_from(folder):
    (folder / "planted_module.py").write_text("x = 1")
    exec(compile("x = 1", str(folder / "planted_module.py"), "exec"))


def _use_time():
    """Just more than the limit: the watcher may see it while it happens, or in the reply."""
    end = time.process_time() + 1.03
    while time.process_time() < end:
        pass


_ACTIONS = {
    "accept": lambda folder: None,
    "refuse": lambda folder: _refuse(),
    "refuse after MemoryError": lambda folder: _refuse_out_of_memory(),
    "KeyError": lambda folder: {}["x"],
    "SystemExit": lambda folder: sys.exit(3),
    "write above": lambda folder: Path("../written").write_text("x"),
    "write elsewhere": lambda folder: Path("/tmp/tood_fuzz_written").write_text("x"),
    "write through a link": _write_through_link,
    "write unseen": _write_unseen,
    "write inside": lambda folder: (folder / "new").write_text("x"),
    "remove elsewhere": lambda folder: os.remove("/tmp/tood_fuzz_nothing"),
    "system": lambda folder: os.system("true"),
    "subprocess": lambda folder: subprocess.run(["true"], check=True),
    "connect": lambda folder: socket.create_connection(("127.0.0.1", 9), 1),
    "eval": lambda folder: eval("'tood_fuzz_canary'"),
    "code from the folder": _import_from,
    "sleep": lambda folder: time.sleep(60),
    "compute": lambda folder: _compute(),
    "use time": lambda folder: _use_time(),
    "eat memory": lambda folder: _eat_memory(),
    "eat memory and release it": lambda folder: _eat_and_release(),
    "crash": lambda folder: ctypes.string_at(0),
    "exit": lambda folder: os._exit(4),
}


def read(folder, target, options):
    action = options["action"]
    yield Step(action, lambda: _ACTIONS[action](folder), **options.get("step", {}))
    if options.get("ends_in_runtime"):
        yield Step("the last", lambda: None, in_runtime=True)


READERS = {"planted": read}
