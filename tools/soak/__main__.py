r"""Train, serve and detect for a long time while things go wrong: nothing may be lost.

python -m tools.soak                                   # 15 minutes for each part
python -m tools.soak training --minutes 600 --seed 3
sudo mount -t tmpfs -o size=1g none /mnt/small && python -m tools.soak dataset --folder /mnt/small

training: processes and data-loading workers are killed, stopped and stalled, the disk is slow or
    full; metrics.json must have each of its lines once, one for 20 iterations, checkpoints only go
    forward, SIGTERM is obeyed.
serving: six clients send images, broken images, nonsense and half requests, some slowly; every good
    image must get its own detections, and the server must stop while they are busy.
dataset: tood detect-dataset is disturbed likewise; results must be those of an undisturbed run,
    byte by byte, with one row for each image.

In all of them memory must stay flat; with training and dataset it is sampled in a run without
faults. On a slow disk Python waits before it opens a file. A disk is filled only if --folder is on
one with less than 4 GB. The faults follow from --seed, but not their moments. Exit code 1:
something was lost or wrong.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.soak.dataset import soak_dataset
from tools.soak.machine import Report
from tools.soak.serving import soak_serving
from tools.soak.training import soak_training

PARTS: dict[str, Callable[[Path, float, random.Random], Report]] = {
    "training": soak_training,
    "serving": soak_serving,
    "dataset": soak_dataset,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts, and print what each has found.

    Args:
        argv: command line; None for that of the process.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tools.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all of them by default")
    parser.add_argument("--minutes", type=float, default=15, help="of each part (15)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="for everything that is written; kept if named")
    args = parser.parse_args(argv)
    problems = 0
    with tempfile.TemporaryDirectory() as temporary:
        for part in args.parts or PARTS:
            folder = Path(args.folder or temporary, part)
            if folder.exists():
                parser.error(f"{folder} exists already: remove it, or name another --folder")
            folder.mkdir(parents=True)
            begin = time.monotonic()
            report = PARTS[part](folder, args.minutes, random.Random(args.seed))
            print_report(part, report, (time.monotonic() - begin) / 60)
            problems += len(report.problems)
    return int(problems > 0)


def print_report(part: str, report: Report, minutes: float) -> None:
    """Print a part's counts, memory and problems.

    Args:
        part: its name.
        report: what it has found.
        minutes: how long it took.
    """
    counts = ", ".join(f"{count} {event}" for event, count in report.events.most_common())
    print(f"{part}, {minutes:.1f} minutes: {counts}")
    if report.memory:
        first, last = report.memory[0], report.memory[-1]
        print(f"  memory: {first:.0f} MiB, {max(report.memory):.0f} at most, {last:.0f} at the end")
    for problem in report.problems:
        print(f"  PROBLEM: {problem}")
    print(f"  {len(report.problems)} problems", flush=True)


if __name__ == "__main__":
    sys.exit(main())
