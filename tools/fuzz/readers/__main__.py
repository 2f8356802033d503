"""``python -m tools.fuzz.readers``: see the package."""

import argparse
import sys
from pathlib import Path

from .files import load_case
from .program import READERS, Tally, attack, format_table, replay
from .watcher import Limits, Result, Watcher

KINDS = ("coco", "yolo", "voc", "openimages", "config", "checkpoint", "exported", "image")


def main(arguments: list[str] | None = None) -> int:
    """Attack the readers; return 1 where there are findings."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.fuzz.readers",
        description="Has the project's readers read damaged and hostile files.",
    )
    parser.add_argument("--cases", type=int, default=1000, help="of each kind")
    parser.add_argument("--start", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND",
                        help=f"available: {', '.join(KINDS)}")  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, metavar="DIR",
                        help="findings are written here")  # fmt: skip
    parser.add_argument("--cpu", type=float, default=10, help="seconds of CPU time per case")
    parser.add_argument("--memory", type=int, default=1000, help="MB per case, above the libraries")
    parser.add_argument("--replay", nargs="+", type=Path, metavar="JSON",
                        help="read stored cases again instead of making some")  # fmt: skip
    args = parser.parse_args(arguments)
    args.output.mkdir(parents=True, exist_ok=True)
    limits = Limits(cpu_s=args.cpu, wall_s=9 * args.cpu, memory_mb=args.memory)
    with Watcher(args.output / "work", READERS, limits) as watcher:
        if args.replay:
            cases = ((str(path), load_case(path)) for path in args.replay)
            return _print_results(replay(watcher, cases, limits))
        numbers = range(args.start, args.start + args.cases)
        tallies: dict[str, Tally] = {}
        for kind in args.kinds:
            tallies[kind] = attack(watcher, kind, numbers, args.seed, args.output, limits)
            print(format_table({kind: tallies[kind]}), flush=True)
    print(f"\n{format_table(tallies)}")
    for kind, tally in tallies.items():
        for problem, count in tally.findings.most_common():
            print(f"{kind}: {count} times {problem[:400]}")
    return int(any(tally.findings for tally in tallies.values()))


def _print_results(results: dict[str, Result]) -> int:
    for name, result in results.items():
        print(f"{name}: {result.outcome} {result.problem}\n{result.details.get('trace', '')}")
    return int(any(result.is_finding for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
