"""Which process is it, does it still run, and has a launcher started it again?"""

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Where Linux describes processes.
_PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """A process, told apart from all others that had or will have its number.

    Attributes:
        host: name of its machine or container, for people.
        machine: boot of the machine and namespace of process numbers; "" where unknown.
        pid: its number.
        start: when it started, in ticks after the boot; "" where unknown.
    """

    host: str
    machine: str
    pid: int
    start: str


def this_process() -> Process:
    """Describe the process that calls it."""
    pid = os.getpid()
    return Process(socket.gethostname(), _machine(), pid, _start_time(pid))


def is_running(process: Process) -> bool | None:
    """Whether a process still runs; None if it belongs to another machine or container."""
    if process.host != socket.gethostname() or process.machine != _machine():
        return None
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # of another user
    # Another process may have got its number since.
    return _start_time(process.pid) == process.start


def _machine() -> str:
    """Two containers, or a machine before and after its reboot, may have one name."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink(_PROC / 'self/ns/pid')}"
    except OSError:
        return ""


def _start_time(pid: int) -> str:
    """Field 22 of /proc/PID/stat; "" if there is none, or for a zombie, which has ended."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The name before ")" may contain anything.
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


# torchrun's before SLURM's: a job of SLURM may start torchrun.
_RESTART_COUNTS = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")


def restart_count(environ: Mapping[str, str]) -> int:
    """How often the launcher has started this job again: torchrun's count, else SLURM's.

    Args:
        environ: the environment variables.
    """
    return next(filter(None, (_count(environ, name) for name in _RESTART_COUNTS)), 0)


def _count(environ: Mapping[str, str], name: str) -> int:
    value = environ.get(name, "")
    return int(value) if value.isdecimal() else 0


@dataclass(frozen=True)
class LaunchId:
    """The job that a process belongs to, so that its restart may take over its folder.

    Attributes:
        name: of the job; "" if there is none.
        count: grows with each start of the job.
    """

    name: str = ""
    count: int = 0

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "LaunchId":
        """Read it from the environment variables of torchrun, SLURM or Kubernetes."""
        slurm = environ.get("SLURM_JOB_ID", "")
        if slurm:  # torchrun's restarts within one start of the job count as well
            counts = (_count(environ, name) for name in reversed(_RESTART_COUNTS))
            return cls(f"SLURM {slurm}", next(counts) * 10_000 + next(counts))
        elastic = environ.get("TORCHELASTIC_RUN_ID", "")
        if elastic not in ("", "none"):  # torchrun's default without --rdzv-id
            return cls(f"torchrun {elastic}", restart_count(environ))
        if environ.get("KUBERNETES_SERVICE_HOST"):
            # A pod of this name is there once at most: its earlier containers have ended.
            return cls(f"pod {socket.gethostname()}", int(time.time()))
        return cls()

    def restarts(self, other: "LaunchId") -> bool:
        """Whether this is a later start of the same job."""
        return bool(self.name) and self.name == other.name and self.count > other.count
