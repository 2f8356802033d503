r"""Change the code in small ways, and see whether the tests notice: the mutation score.

python -m tools.mutation --output output/mutation
python -m tools.mutation --targets box_ops criteria --sample 100

Needs: pip install cosmic-ray, which makes the mutants: another operator, number or comparison, a
decorator or a "not" less. Nothing on the disk is changed: a process that has loaded PyTorch and
detectron2, but nothing of this project, forks for each mutant, loads the changed module instead of
the file, and runs the target's tests until one fails. Mutants that change only annotations do not
count. Results go to results.json as soon as they are known; mutants that have one are not repeated,
unless their module, their tests, or what tests share has changed since: after another change, name
another folder. Mutants with which the tests hang, also when they run alone, count as killed, and
have a column. The survivors are listed. Exit code 1: a target is below its floor, or what runs the
tests failed.
"""

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from tools.mutation.mutants import Mutant, make_mutants
from tools.mutation.running import ERROR, SURVIVED, TIMEOUT, fingerprint, preload, run_mutants
from tools.mutation.targets import TARGETS, find_modules


def main(argv: Sequence[str] | None = None) -> int:
    """Run the targets, and print their scores.

    Args:
        argv: command line; None for that of the process.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tools.mutation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--sample", type=int, help="how many mutants of each target, at random")
    parser.add_argument("--jobs", type=int, default=2, help="at a time (2)")
    parser.add_argument("--output", default="output/mutation", help="folder of results.json")
    args = parser.parse_args(argv)
    path = Path(args.output, "results.json").resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    known: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    preload()
    rows, failed = [], False
    for name in args.targets:
        target = TARGETS[name]
        mutants = [mutant for file in find_modules(target) for mutant in make_mutants(file)]
        random.Random(0).shuffle(mutants)
        mutants = mutants[: args.sample]
        prints = {mutant.name: fingerprint(mutant, target.tests) for mutant in mutants}

        def report(mutant: Mutant, outcome: str, prints: dict[str, str] = prints) -> None:
            known[mutant.name] = {
                "outcome": outcome, "change": mutant.change, "of": prints[mutant.name],
            }  # fmt: skip
            path.write_text(json.dumps(known, indent=1) + "\n")
            if outcome in (SURVIVED, ERROR):
                print(f"{outcome}: {mutant.path}:{mutant.line}  {mutant.change}", flush=True)

        waiting = [x for x in mutants if known.get(x.name, {}).get("of") != prints[x.name]]
        if waiting:
            run_mutants(target, waiting, args.jobs, report)
        counts = Counter(known[mutant.name]["outcome"] for mutant in mutants)
        score = 100 * (1 - (counts[SURVIVED] + counts[ERROR]) / len(mutants))
        columns = (counts[SURVIVED], counts[TIMEOUT], counts[ERROR])
        rows.append([name, len(mutants), *columns, f"{score:.1f}", target.floor])
        failed |= score < target.floor or counts[ERROR] > 0
    header = ["target", "mutants", "survived", "hung", "errors", "score, %", "floor"]
    print(tabulate(rows, header, "github"))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
