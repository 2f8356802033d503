"""Processes of this machine and their memory, from /proc."""

from pathlib import Path


def resident_mib(pid: int) -> float:
    """Resident memory of a process in MiB; 0 for one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), 0.0)


def descendants(pid: int) -> list[int]:
    """The children of a process, and theirs; none of one that has ended."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [found for child in map(int, children) for found in (child, *descendants(child))]


def family_mib(pid: int) -> float:
    """Resident memory of a process and its descendants in MiB; 0 for one that has ended."""
    return sum(map(resident_mib, (pid, *descendants(pid))))
