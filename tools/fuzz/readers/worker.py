"""The process that reads cases: one JSON line in, one JSON line out. `watcher` starts it."""

import argparse
import contextlib
import faulthandler
import importlib
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from .audit import Auditor, ForbiddenAction


class Step(NamedTuple):
    """One way in which a reader reads a case.

    Attributes:
        name: for messages.
        run: reads.
        in_runtime: the runtime of another project runs a graph that the file holds. That it
            crashes, or needs much time or memory, is counted and no finding.
        runs_code: the format lets files run code of their own, so what they do is no finding.
    """

    name: str
    run: Callable[[], object]
    in_runtime: bool = False
    runs_code: bool = False


# In tmp/, JSON: whether the current step is in the runtime of another project, and what the steps
# before it have used.
STEP_FILE = "step"
# Far more than a case may need, so that one that needs it cannot harm the machine.
_ADDRESS_SPACE = 6 * 2**30
_FILE_SIZE = 2**28
# Words in the messages of allocators.
_NO_MEMORY = ("not enough memory", "can't allocate memory", "bad_alloc", "bad allocation")


def main() -> None:
    """Read cases until the standard input ends.

    The module that ``--readers`` names has ``OWN_ERRORS``, a tuple of exceptions, and ``READERS``:
    by kind a function of the folder, the target and the options of a case that returns its steps.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--readers", required=True)
    parser.add_argument("--root", type=Path, required=True, help="holds case/, tmp/ and outside/")
    arguments = parser.parse_args()
    replies = os.fdopen(os.dup(1), "w")
    with contextlib.suppress(OSError):  # what readers print is not needed
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    faulthandler.enable()
    readers = importlib.import_module(arguments.readers)
    root = arguments.root.resolve()
    os.chdir(root / "outside")
    _limit()
    worker = _Worker(readers.READERS, readers.OWN_ERRORS, root)
    _reply(replies, {"ready": True})
    for line in sys.stdin:
        _reply(replies, worker.read(json.loads(line)))


def _reply(replies: TextIO, content: dict[str, Any]) -> None:
    replies.write(f"{json.dumps(content)}\n")
    replies.flush()


def _limit() -> None:
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + _ADDRESS_SPACE, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_SIZE, _FILE_SIZE))


class _Worker:
    def __init__(
        self,
        readers: dict[str, Callable[..., Iterator[Step]]],
        own_errors: tuple[type[Exception], ...],
        root: Path,
    ) -> None:
        self._readers, self._own_errors, self._root = readers, own_errors, root
        self._folder = root / "case"
        self._auditor = Auditor([self._folder, root / "tmp"], self._folder)

    def read(self, case: dict[str, Any]) -> dict[str, Any]:
        """Read one case by all steps; the first finding ends it."""
        used = _Usage()
        reply: dict[str, Any] = {"outcome": "accepted", "steps": {}}
        before = _listing(self._root)
        self._auditor.events.clear()
        try:
            for step in self._readers[case["kind"]](self._folder, case["target"], case["options"]):
                audit = case.get("audit", True) and not step.runs_code
                self._write_step(step, used)
                goes_on = self._run_step(reply, step, audit)
                used.add(step.in_runtime)
                if not goes_on:
                    break
        except Exception:
            reply |= {"outcome": "raised", "problem": "the fuzzer itself: " + _trace()}
        events = [*self._auditor.events, *_new_files(before, _listing(self._root))]
        if events:
            reply |= {"outcome": "forbidden", "problem": "; ".join(events[:3])}
        return {**reply, **used.to_dict()}

    def _write_step(self, step: Step, used: "_Usage") -> None:
        """Write what the watcher reads if it ends this process, at any moment: never half."""
        path = self._root / "tmp" / STEP_FILE
        new = path.with_suffix(".new")
        new.write_text(json.dumps({"in_runtime": step.in_runtime, **used.to_dict()}))
        os.replace(new, path)

    def _run_step(self, reply: dict[str, Any], step: Step, audit: bool) -> bool:
        """Run a step; False where it ends the case."""
        name = reply["last_step"] = step.name
        try:
            self._auditor.active = audit
            try:
                step.run()
            finally:
                self._auditor.active = False
        except ForbiddenAction:
            reply["trace"] = _trace()
            return False
        except self._own_errors as error:
            text = str(error)
            if _is_memory_error(error) and not step.in_runtime:
                reply |= {"outcome": "memory", "problem": f"{name}: {text}", "trace": _trace()}
                return False
            reply["steps"][name] = f"{type(error).__name__}: {text[:200]}"
            if reply["outcome"] == "accepted":
                reply["outcome"] = "refused"
            if not text.strip() or len(text) > 20_000:
                reply |= {"outcome": "raised", "problem": f"{name}: an unreadable message"}
                return False
        except BaseException as error:
            kind = "memory" if _is_memory_error(error) else "raised"
            problem = f"{name}: {type(error).__name__}: {str(error)[:300]}"
            reply |= {"outcome": kind, "problem": problem, "trace": _trace()}
            return False
        else:
            reply["steps"][name] = "accepted"
        return True


class _Usage:
    """Time and memory of a case's steps: of this project's, and of those in a runtime."""

    def __init__(self) -> None:
        self._cpu_s, self._peak_kib = [0.0, 0.0], [0, 0]
        self._rss = _reset_peak()
        self._since = time.process_time()

    def add(self, in_runtime: bool) -> None:
        """Add what was used since the last call."""
        now = time.process_time()
        self._cpu_s[in_runtime] += now - self._since
        peak = max(0, _memory("VmHWM") - self._rss)
        self._peak_kib[in_runtime] = max(self._peak_kib[in_runtime], peak)
        self._since = now
        _reset_peak()

    def to_dict(self) -> dict[str, float]:
        """For the reply."""
        names = ("", "runtime_")
        cpu = {f"{name}cpu_s": round(x, 3) for name, x in zip(names, self._cpu_s, strict=True)}
        return cpu | {
            f"{name}peak_mb": x // 2**10 for name, x in zip(names, self._peak_kib, strict=True)
        }


def _is_memory_error(error: BaseException | None) -> bool:
    """Whether an allocation failed, here or in what caused the error."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, MemoryError) or any(word in str(error) for word in _NO_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False


def _trace() -> str:
    return traceback.format_exc(limit=-12)[-6000:]


def _memory(name: str) -> int:
    """A line of /proc/self/status, in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0


def _reset_peak() -> int:
    """Start measuring the peak anew; return the memory that is in use, in KiB."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _listing(root: Path) -> dict[str, tuple[int, int]]:
    """What is next to the folder of the case, and in the working directory."""
    found = {}
    for folder in (root, root / "outside"):
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name == "stderr.txt":
                    continue
                status = entry.stat(follow_symlinks=False)
                is_folder = entry.is_dir(follow_symlinks=False)
                found[entry.path] = (0, 0) if is_folder else (status.st_size, status.st_mtime_ns)
    return found


def _new_files(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    paths = sorted(before.keys() | after.keys())
    return [f"writes or removes {x}" for x in paths if before.get(x) != after.get(x)]


if __name__ == "__main__":
    main()
