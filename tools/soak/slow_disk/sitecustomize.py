"""A slow disk: Python waits before it opens or renames anything below a folder.

Python imports this file at its start, and so do its child processes, where this folder is on
PYTHONPATH. It stands for a network disk that answers late; nothing here needs root.
"""

import os
import sys
import time

# Seconds that each answer takes.
DELAY = 0.1
_EVENTS = frozenset(("open", "os.rename"))


def _wait(event: str, args: tuple[object, ...]) -> None:
    if event not in _EVENTS or not isinstance(args[0], str | os.PathLike):
        return
    if os.path.abspath(os.fspath(args[0])).startswith(f"{FOLDER}{os.sep}"):
        time.sleep(DELAY)


FOLDER = os.environ.get("TOOD_SOAK_SLOW_FOLDER", "")
if FOLDER:
    sys.addaudithook(_wait)
