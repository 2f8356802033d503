"""Where the time of a step goes: backbone, FPN, head, assignment, losses, post-processing.

tools/profile_parts.py --config-file configs/TOOD-R50-1x.yaml                    # inference
tools/profile_parts.py --config-file configs/TOOD-R50-1x.yaml --train --batch 16 --size 1344x800

Medians over some steps, on the GPU if there is one, of which every part then waits for the one
before it (the step as a whole is timed without such waits, in turn with them). "reads" are the
places where the host reads a value back, or a size that only the device knows, which makes it wait
for a GPU. On a CPU nothing waits, and checks that are left out on a GPU are counted too.
"""

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from traceback import walk_stack
from types import ModuleType
from typing import Any

import tood  # before the others: it explains what is missing

# isort: split
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from tabulate import tabulate
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tood.analysis.complexity import image_size
from tood.config.loading import load_config
from tood.errors import ConfigError, exit_on_user_error
from tood.modeling import TOOD, meta_arch
from tools.benchmark.harness import ground_truth

# Operators whose result, or its size, the host has to wait for; and so is indexing by a mask.
READING_OPERATORS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim")
READING_OPERATORS += ("torchvision::nms",)
INDEXING_OPERATORS = ("index", "index_put", "index_put_", "_index_put_impl_")


class HostReads(TorchDispatchMode):
    """Counts what makes the host wait for a GPU, by operator and place in this package."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[tuple[str, str]] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Call the operator, and note it."""
        name = func.name().removeprefix("aten::").split(".")[0]
        if name in READING_OPERATORS or (name in INDEXING_OPERATORS and _by_mask(args[1])):
            package = str(Path(tood.__file__).parent)
            place = "elsewhere"
            for frame, line in walk_stack(None):
                code = frame.f_code
                if code.co_filename.startswith(package):
                    place = f"{code.co_filename[len(package) + 1 :]}:{line} {code.co_name}"
                    break
            self.counts[name, place] += 1
        return func(*args, **(kwargs or {}))


def _by_mask(indices: list[torch.Tensor | None]) -> bool:
    return any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in indices)


class Stopwatch:
    """Adds up the milliseconds of the functions that it was put around."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.running = False
        self.totals: Counter[str] = Counter()

    def now(self) -> float:
        """Milliseconds, after all that was given to the device is done."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return 1e3 * time.perf_counter()

    def around(self, part: str, function: Callable) -> Callable:
        """The function, with its time added to a part's while the watch is running."""

        def timed(*args: object, **kwargs: object) -> object:
            if not self.running:
                return function(*args, **kwargs)
            start = self.now()
            result = function(*args, **kwargs)
            self.totals[part] += self.now() - start
            return result

        return timed

    def put(self, owner: nn.Module | ModuleType, name: str, part: str) -> None:
        """Put the watch around an attribute."""
        setattr(owner, name, self.around(part, getattr(owner, name)))


def watch_parts(model: TOOD, watch: Stopwatch) -> None:
    """Put the watch around the parts of a model."""
    watch.put(model, "preprocess_image", "preprocessing")
    watch.put(model.backbone.bottom_up, "forward", "backbone")
    watch.put(model.backbone, "forward", "backbone and FPN")
    watch.put(model.head, "forward", "head")
    watch.put(meta_arch, "compute_targets", "assignment")
    for name, phase in model.phases.items():
        model.phases[name] = replace(phase, criterion=watch.around("losses", phase.criterion))
    watch.put(model, "losses", "losses")
    watch.put(model, "_log_assignment_stats", "logging")
    watch.put(model, "forward_inference", "post-processing")


def make_inputs(args: argparse.Namespace, model: TOOD) -> list[dict]:
    """A batch of noise with boxes of 16 to 400 pixels, as a loader would give it."""
    width, height = args.size
    boxes, classes = ground_truth(args.ground_truths, height, width, "cpu", model.num_classes)
    instances = Instances((height, width), gt_boxes=Boxes(boxes), gt_classes=classes)
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    return [{"image": image, "instances": instances}] * args.batch


def profile(
    model: TOOD, inputs: list[dict], watch: Stopwatch, args: argparse.Namespace
) -> tuple[dict[str, float], HostReads]:
    """Milliseconds of each part and of the step, and the host's reads in one step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9)
    dtype = getattr(torch, args.amp or "bfloat16")

    def step() -> None:
        with torch.autocast(watch.device, dtype=dtype, enabled=args.amp is not None):
            output = model(inputs)
        if args.train:
            loss = sum(output.values())
            watch.around("backward", loss.backward)()
            watch.around("optimizer", optimizer.step)()
            optimizer.zero_grad()

    samples: dict[str, list[float]] = {}
    with nullcontext() if args.train else torch.no_grad():
        step()
        for _ in range(args.repeat):
            start = watch.now()
            step()
            samples.setdefault("step", []).append(watch.now() - start)
            watch.totals.clear()
            watch.running = True
            step()
            watch.running = False
            for part, total in watch.totals.items():
                samples.setdefault(part, []).append(total)
        with HostReads() as reads:
            step()
    medians = {part: statistics.median(values) for part, values in samples.items()}
    medians["FPN"] = medians.pop("backbone and FPN") - medians["backbone"]
    return medians, reads


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cuda = torch.cuda.is_available()
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--train", action="store_true", help="a training step; else inference")
    parser.add_argument("--phase", default="aligned", choices=("warmup", "aligned"))
    parser.add_argument("--batch", type=int, default=1, help="images")
    parser.add_argument(
        "--size", type=image_size, default=(1216, 800), help="width x height, pixels"
    )
    parser.add_argument("--ground-truths", type=int, default=10, help="of each image")
    parser.add_argument("--amp", choices=("float16", "bfloat16"), help="autocast; else float32")
    parser.add_argument("--device", default="cuda" if cuda else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--repeat", type=int, default=5, help="timed steps of each kind")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ...")
    return parser.parse_args()


def main() -> None:
    """Print the two tables."""
    args = parse_args()
    torch.manual_seed(0)
    cfg = load_config(args.config_file, [*args.opts, "MODEL.DEVICE", args.device])
    model = build_model(cfg)
    if not isinstance(model, TOOD):
        raise ConfigError(f"{args.config_file} is for {cfg.MODEL.META_ARCHITECTURE}, not for TOOD")
    model.train(args.train).set_phase(args.phase)
    watch = Stopwatch(args.device)
    watch_parts(model, watch)
    medians, reads = profile(model, make_inputs(args, model), watch, args)
    order = ["preprocessing", "backbone", "FPN", "head", "assignment", "losses", "logging"]
    order += ["backward", "optimizer", "post-processing", "step"]
    rows = [
        [part, medians[part], 100 * medians[part] / medians["step"]]
        for part in order
        if part in medians
    ]
    print(tabulate(rows, ["part", "ms", "% of the step"], tablefmt="github", floatfmt=".1f"))
    print()
    rows = [[count, name, place] for (name, place), count in reads.counts.most_common()]
    print(tabulate(rows, ["reads", "operator", "place"], tablefmt="github"))
    if args.device == "cuda":
        print(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
