"""Runs cases in a worker, with limits on time and memory, and restarts it when it dies."""

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tools.processes import resident_mib

from .files import Case, write_case
from .worker import STEP_FILE

# In the runtime of another project, the same as the last three findings are in this one.
RUNTIME = "runtime"
_FATAL = ("timeout", "memory", "crash")
FINDINGS = ("raised", "forbidden", *_FATAL)
_ROOT = str(Path(__file__).resolve().parents[3])
_CLOCK = os.sysconf("SC_CLK_TCK")
_POLL_S = 0.05
# A worker that has grown by so much between cases is replaced: caches, not a finding.
_MAX_GROWTH_MB = 1500
_START_S = 300


@dataclass(frozen=True)
class Limits:
    """What a case may use.

    Attributes:
        cpu_s: processor time.
        wall_s: time on the clock: other programs may use the processor too.
        idle_s: time on the clock without any processor time, as for a file that never ends.
        memory_mb: peak above what the worker uses anyway.
    """

    cpu_s: float = 10
    wall_s: float = 90
    idle_s: float = 15
    memory_mb: int = 1000


@dataclass(frozen=True)
class Result:
    """What became of a case.

    Attributes:
        outcome: "accepted", "refused", `RUNTIME` or one of `FINDINGS`.
        problem: what was found, in a line.
        details: what the worker said, such as errors by step, and the stack trace.
    """

    outcome: str
    problem: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def is_finding(self) -> bool:
        """Whether something must be fixed."""
        return self.outcome in FINDINGS


class Watcher:
    """Owns a worker and the folder that it works in.

    Args:
        root: a folder for the worker; "case" in it is the folder of the case, "outside" its working
            directory, which must stay empty.
        readers: module with the readers; see `worker`.
        limits: of each case.
    """

    def __init__(self, root: Path, readers: str, limits: Limits) -> None:
        self.root, self._readers, self._limits = root, readers, limits
        self._warm_up: Sequence[Case] = ()
        for name in ("case", "tmp", "outside"):
            shutil.rmtree(root / name, ignore_errors=True)
            (root / name).mkdir(parents=True)
        self._process: subprocess.Popen[str] | None = None
        self._base_mb = 0.0
        self.restarts = -1

    def __enter__(self) -> "Watcher":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def prepare(self, valid: Sequence[Case], limits: Limits) -> None:
        """Get ready for cases of a kind.

        Args:
            valid: cases of it that the worker, and each that replaces it, reads first without being
                watched: libraries start threads, write caches and look for programs when they are
                used for the first time.
            limits: of each case from here on.
        """
        self._warm_up, self._limits = valid, limits
        if self._is_alive():
            self._read_valid()

    def run(self, case: Case) -> Result:
        """Write a case of any kind that the readers know, and have it read."""
        if not self._is_alive():
            self._start()
            self._read_valid()
        return self._read(case, audit=True)

    def _is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _read_valid(self) -> None:
        for case in self._warm_up:
            self._read(case, audit=False)

    def _read(self, case: Case, audit: bool) -> Result:
        write_case(case, self.root / "case")
        process = self._process
        if process is None:
            return Result("crash", "the process died while it read valid files")
        line = {"kind": case.kind, "target": case.target, "options": dict(case.options)}
        assert process.stdin is not None
        process.stdin.write(f"{json.dumps({**line, 'audit': audit})}\n")
        process.stdin.flush()
        result = self._wait(process)
        if result.outcome in _FATAL or self._has_grown():
            # What a step of ours has used counts also where the worker has gone on to a runtime's.
            step = json.loads((self.root / "tmp" / STEP_FILE).read_text())
            is_ours = step["cpu_s"] > self._limits.cpu_s or step["peak_mb"] > self._limits.memory_mb
            if result.outcome in _FATAL and step["in_runtime"] and not is_ours:
                result = replace(result, outcome=RUNTIME)
            self._stop()
        if result.outcome == "forbidden":
            self._clean()
        return result

    def _wait(self, process: "subprocess.Popen[str]") -> Result:
        started, cpu = time.monotonic(), _cpu_s(process.pid)
        last_change, last_cpu = started, cpu
        before = resident_mib(process.pid)
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not selector.select(_POLL_S):
                if process.poll() is not None:
                    break
                if resident_mib(process.pid) - before > self._limits.memory_mb:
                    return Result("memory", f"more than {self._limits.memory_mb} MB")
                now, used = time.monotonic(), _cpu_s(process.pid)
                if used > last_cpu:
                    last_change, last_cpu = now, used
                if used - cpu > self._limits.cpu_s:
                    return Result("timeout", f"more than {self._limits.cpu_s:g} s of CPU time")
                if now - started > self._limits.wall_s:
                    return Result("timeout", f"more than {self._limits.wall_s:g} s")
                if now - last_change > self._limits.idle_s:
                    return Result("timeout", f"waits for more than {self._limits.idle_s:g} s")
        reply = process.stdout.readline()
        if not reply:
            return self._crash(process)
        details = json.loads(reply)
        if details["outcome"] not in FINDINGS:
            if details["peak_mb"] > self._limits.memory_mb:
                return Result("memory", f"{details['peak_mb']} MB", details)
            if details["cpu_s"] > self._limits.cpu_s:
                return Result("timeout", f"{details['cpu_s']:.1f} s of CPU time", details)
            if details["runtime_peak_mb"] > self._limits.memory_mb:
                return Result(RUNTIME, f"{details['runtime_peak_mb']} MB", details)
            if details["runtime_cpu_s"] > self._limits.cpu_s:
                return Result(RUNTIME, f"{details['runtime_cpu_s']:.1f} s of CPU time", details)
        return Result(details["outcome"], details.get("problem", ""), details)

    def _crash(self, process: "subprocess.Popen[str]") -> Result:
        code = process.wait()
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        text = (self.root / "stderr.txt").read_text(errors="replace")
        return Result("crash", f"the process died: {name}", {"trace": text[-6000:]})

    def _start(self) -> None:
        self._stop()
        tmp = str(self.root.resolve() / "tmp")
        caches = ("HOME", "TMPDIR", "XDG_CACHE_HOME", "MPLCONFIGDIR", "FVCORE_CACHE")
        environment = {**os.environ, **dict.fromkeys(caches, tmp), "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join([_ROOT, os.environ.get("PYTHONPATH", "")])
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "tools.fuzz.readers.worker",
            "--readers",
            self._readers,
        ]
        with open(self.root / "stderr.txt", "wb") as stderr:
            self._process = subprocess.Popen(
                [*command, "--root", str(self.root)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=environment,
            )
        process = self._process
        self.restarts += 1
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            is_ready = bool(selector.select(_START_S))
        if not is_ready or process.poll() is not None or "ready" not in process.stdout.readline():
            self._stop()
            text = (self.root / "stderr.txt").read_text(errors="replace")
            raise RuntimeError(f"The worker does not start: {text[-3000:]}")
        self._base_mb = resident_mib(process.pid)

    def _has_grown(self) -> bool:
        process = self._process
        return process is not None and resident_mib(process.pid) - self._base_mb > _MAX_GROWTH_MB

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()

    def _clean(self) -> None:
        """Remove what a case left outside of its folder."""
        kept = {"case", "tmp", "outside", "stderr.txt"}
        for path in [*(self.root / "outside").iterdir(), *self.root.iterdir()]:
            if path.parent != self.root or path.name not in kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _CLOCK
