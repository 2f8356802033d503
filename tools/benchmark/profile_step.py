r"""Where the time of a step goes: backbone, FPN, head, targets, losses, post-processing.

python -m tools.benchmark.profile_step --config-file configs/TOOD-R50-1x.yaml      # inference
python -m tools.benchmark.profile_step --config-file configs/TOOD-R50-1x.yaml --train \
    --batch 16 --size 1344x800

Medians over some steps. The parts are the ranges that the model names for PyTorch's profiler
("tood/backbone" and so on). On a CPU a part's time is the time spent in its range; on a GPU it is
the time of all kernels that were launched in its range. "other" is the rest of the profiled step,
and "step" the same step without the profiler, which slows the CPU down.

"reads" lists the places where the host reads a value back, or a size that only the device knows,
which makes it wait for a GPU. On a CPU nothing waits, but checks that are skipped on a GPU are
listed too.
"""

import argparse
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import tood  # noqa: F401  # imported first: reports missing dependencies

# isort: split
import torch
from detectron2.modeling import build_model
from tabulate import tabulate
from torch import nn
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from tood.cli.common import exit_on_user_error
from tood.config.loading import load_config
from tood.errors import ConfigError
from tood.modeling.dense_detector import find_dense_core
from tools.benchmark.cases.common import make_instances, random_ground_truth
from tools.benchmark.harness import Settings, time_call
from tools.benchmark.host_reads import HostReads
from tools.benchmark.options import add_device_options

# The rows of the table and their ranges, in the order of a step. "bottom-up", "backward" and
# "optimizer" are named here, the others in the model.
PARTS = {
    "backbone": "bottom-up",
    "FPN": "tood/backbone",  # the backbone with FPN, minus "bottom-up"
    "head": "tood/head",
    "targets": "tood/targets",
    "losses": "tood/losses",
    "backward": "backward",
    "optimizer": "optimizer",
    "post-processing": "tood/postprocess",
}


@contextmanager
def name_range(module: nn.Module, name: str) -> Iterator[None]:
    """Make a module's forward a named range for the profiler."""
    ranges: list[record_function] = []

    def enter(*_: object) -> None:
        ranges.append(record_function(name))
        ranges[-1].__enter__()

    def leave(*_: object) -> None:
        ranges.pop().__exit__(None, None, None)

    hooks = [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def part_times(events: list[FunctionEvent], device: str) -> dict[str, float]:
    """Milliseconds of each part of one profiled step, by the names of :data:`PARTS`.

    Kernels count for the range in which they were launched, whatever the thread: the backward pass
    launches its kernels from another one.

    Args:
        events: of the profiler.
        device: "cpu" or "cuda".
    """
    events = [event for event in events if event.device_type == DeviceType.CPU]
    names = {name: part for part, name in PARTS.items()}
    # Ranges have copies on the device, which are no kernels.
    operators = [event for event in events if not event.is_user_annotation]
    times: dict[str, float] = {}
    for event in events:
        if event.name not in names:
            continue
        start, end = event.time_range.start, event.time_range.end
        microseconds = event.time_range.elapsed_us()
        if device == "cuda":
            microseconds = sum(
                kernel.duration
                for operator in operators
                if start <= operator.time_range.start < end
                for kernel in operator.kernels
            )
        part = names[event.name]
        times[part] = times.get(part, 0.0) + microseconds / 1e3
    times["FPN"] -= times["backbone"]
    return times


def profile_model(
    model: nn.Module, inputs: list[dict], settings: Settings, train: bool, repeat: int
) -> tuple[dict[str, float], HostReads]:
    """Median milliseconds of each part and of the step, and the host's reads in one step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9)

    def step() -> None:
        with settings.autocast():
            output = model(inputs)
        if train:
            loss = sum(output.values())
            with record_function("backward"):
                loss.backward()
            with record_function("optimizer"):
                optimizer.step()
            optimizer.zero_grad()

    activities = [ProfilerActivity.CPU]
    if settings.device == "cuda":
        activities.append(ProfilerActivity.CUDA)
    samples: dict[str, list[float]] = {}
    no_grad = nullcontext() if train else torch.no_grad()
    with no_grad, name_range(model.backbone.bottom_up, PARTS["backbone"]):
        step()
        for _ in range(repeat):
            samples.setdefault("step", []).append(time_call(step, settings.device))
            with profile(activities=activities) as profiler:
                profiled = time_call(step, settings.device)
            times = part_times(profiler.events(), settings.device)
            times["other"] = profiled - sum(times.values())
            for part, milliseconds in times.items():
                samples.setdefault(part, []).append(milliseconds)
        with HostReads() as reads:
            step()
    return {part: statistics.median(values) for part, values in samples.items()}, reads


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmark.profile_step",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--train", action="store_true", help="a training step instead of inference")
    parser.add_argument("--phase", default="aligned", choices=("warmup", "aligned"))
    add_device_options(parser)
    parser.add_argument("--num-gt", type=int, default=10, help="GT boxes per image")
    parser.add_argument("--repeat", type=int, default=5, help="timed steps of each kind")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ...")
    return parser


def make_inputs(settings: Settings, num_gt: int, num_classes: int) -> list[dict]:
    """A batch of noise with random GT boxes, on the CPU as from a data loader."""
    width, height = settings.size
    boxes, classes = random_ground_truth(num_gt, height, width, "cpu", num_classes)
    instances = make_instances((height, width), boxes, classes)
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    return [{"image": image, "instances": instances}] * settings.batch


def main(argv: Sequence[str] | None = None) -> None:
    """Print the two tables.

    Args:
        argv: command line; None for that of the process.
    """
    args = make_parser().parse_args(argv)
    torch.manual_seed(0)
    settings = Settings(args.device, args.amp, args.batch, args.size, [])
    cfg = load_config(args.config_file, [*args.opts, "MODEL.DEVICE", args.device])
    model = build_model(cfg)
    core = find_dense_core(model)
    if core is not model:
        raise ConfigError(
            f"Cannot profile MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE} of "
            f"{args.config_file}. Use a config with TOOD."
        )
    core.train(args.train).set_phase(args.phase)
    inputs = make_inputs(settings, args.num_gt, core.num_classes)
    medians, reads = profile_model(core, inputs, settings, args.train, args.repeat)
    step = medians.pop("step")
    profiled = sum(medians.values())
    rows: list[list] = [
        [part, medians[part], 100 * medians[part] / profiled]
        for part in [*PARTS, "other"]
        if part in medians
    ]
    rows.append(["step", step, None])
    print(tabulate(rows, ["part", "ms", "%"], tablefmt="github", floatfmt=".1f"))
    print()
    rows = [[count, name, place] for (name, place), count in reads.counts.most_common()]
    print(tabulate(rows, ["reads", "operator", "place"], tablefmt="github"))
    if args.device == "cuda":
        print(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
