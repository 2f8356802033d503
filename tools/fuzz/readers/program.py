"""Makes cases, has them read, and counts what becomes of them."""

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from tabulate import tabulate

from .files import Case, store_case
from .mutations import mutate
from .watcher import FINDINGS, RUNTIME, Limits, Result, Watcher

READERS = "tools.fuzz.readers.entry_points"
# Images may have as many pixels as Pillow accepts, 179 million, of 3 bytes each and in copies.
IMAGE_MEMORY_MB = 2500
# Findings of one kind at one place that are stored; the others are counted.
_MAX_ALIKE = 3


@dataclass
class Tally:
    """What became of the cases of a kind.

    Attributes:
        counts: cases by outcome.
        findings: how often each problem was found.
        slowest: the most processor time that a case took, in seconds, and its number.
        largest: the most memory that a case took, in MB, and its number.
    """

    counts: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, int] = 0.0, 0
    largest: tuple[int, int] = 0, 0

    def add(self, result: Result, index: int) -> None:
        """Count a case."""
        self.counts[result.outcome] += 1
        self.slowest = max(self.slowest, (result.details.get("cpu_s", 0.0), index))
        self.largest = max(self.largest, (result.details.get("peak_mb", 0), index))


def limits_of(kind: str, limits: Limits) -> Limits:
    """The limits of a kind: images need more memory than other files."""
    if kind != "image":
        return limits
    return replace(limits, memory_mb=max(limits.memory_mb, IMAGE_MEMORY_MB))


@functools.cache
def samples(kind: str) -> tuple[Case, ...]:
    """The valid inputs of a kind."""
    from .samples import BUILDERS

    return tuple(BUILDERS[kind]())


def make_case(kind: str, seed: int, index: int) -> tuple[Case, list[str]]:
    """The damaged case of a number, and what was done to it; the same in each run."""
    rng = Random(f"{seed}/{kind}/{index}")
    return mutate(rng.choice(samples(kind)), rng)


def attack(
    watcher: Watcher,
    kind: str,
    numbers: Sequence[int],
    seed: int,
    output: Path,
    limits: Limits,
    report: Callable[[str], None] = print,
) -> Tally:
    """Read damaged cases of a kind.

    Args:
        watcher: has them read, by `READERS`.
        kind: of the cases.
        numbers: of the cases.
        seed: of all cases.
        output: findings are stored there.
        limits: of each case.
        report: gets a line for each finding.

    Raises:
        RuntimeError: a valid input is not accepted or refused as it should be, so nothing that
            would be found means anything.
    """
    tally = Tally()
    valid = samples(kind)
    watcher.prepare(valid, limits_of(kind, limits))
    _require_accepted(watcher, valid)
    for index in numbers:
        case, done = make_case(kind, seed, index)
        result = watcher.run(case)
        tally.add(result, index)
        if result.outcome == RUNTIME:
            report(f"{kind}-{seed}-{index}: in the runtime: {result.problem[:200]}")
        if not result.is_finding:
            continue
        place = problem_key(result)
        tally.findings[place] += 1
        if tally.findings[place] <= _MAX_ALIKE:
            path = output / f"{kind}-{seed}-{index}"
            store_case(case, path, {"mutations": done, **_describe(result)})
            report(f"{path.name}: {result.outcome}: {result.problem[:300]}")
    return tally


def _describe(result: Result) -> dict[str, str]:
    trace = result.details.get("trace", "")
    return {"outcome": result.outcome, "problem": result.problem, "trace": trace}


def problem_key(result: Result) -> str:
    """The same text for findings that have the same cause, as far as a program can tell."""
    trace = result.details.get("trace") or ""
    places = [line.strip() for line in trace.splitlines() if line.strip().startswith("File ")]
    own = [place for place in places if "/tools/fuzz/" not in place]
    return " | ".join((result.outcome, *own[-2:])) if own else f"{result.outcome} {result.problem}"


def _require_accepted(watcher: Watcher, valid: Sequence[Case]) -> None:
    """Read the valid inputs: checkpoints of parts of a model are refused, and nothing else."""
    for case in valid:
        result = watcher.run(case)
        if result.is_finding or (result.outcome == "refused" and case.kind != "checkpoint"):
            details = result.details.get("trace") or result.details.get("steps")
            raise RuntimeError(f"A valid {case.kind} {case.target!r}: {result.problem}\n{details}")


def replay(
    watcher: Watcher, cases: Iterable[tuple[str, Case]], limits: Limits
) -> dict[str, Result]:
    """Read stored cases again; return the results by name."""
    results: dict[str, Result] = {}
    by_kind: dict[str, list[tuple[str, Case]]] = {}
    for name, case in cases:
        by_kind.setdefault(case.kind, []).append((name, case))
    for kind, named in by_kind.items():
        watcher.prepare(samples(kind), limits_of(kind, limits))
        for name, case in named:
            results[name] = watcher.run(case)
    return results


def format_table(tallies: dict[str, Tally]) -> str:
    """Cases by kind and outcome."""
    outcomes = ("accepted", "refused", RUNTIME, *FINDINGS)
    rows = [
        [
            *(kind, sum(tally.counts.values())),
            *(tally.counts[outcome] for outcome in outcomes),
            *(f"{value:.1f} (case {index})" for value, index in (tally.slowest, tally.largest)),
        ]
        for kind, tally in tallies.items()
    ]
    header = ["kind", "cases", *outcomes, "slowest, CPU s", "peak, MB"]
    return tabulate(rows, header, tablefmt="github")
