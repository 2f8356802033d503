r"""Time and memory of an optimizer step with the options of a training, on random images.

python -m tools.benchmark.training_step --config-file configs/TOOD-R50-1x.yaml --batch 4
python -m tools.benchmark.training_step --config-file configs/TOOD-R50-1x.yaml --validation-loss

The steps are timed in turn. Statistics of assignments and EMA are timed on their own too, because
they cost less than two steps differ. The memory is what autograd keeps for the backward pass of one
forward pass, with each storage counted once. The validation loss (TEST.LOSS) is timed next to the
detection of the same images, in turn.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import tood  # noqa: F401  # imported first: reports missing dependencies

# isort: split
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from tabulate import tabulate
from torch import Tensor

from tood.cli.common import exit_on_user_error
from tood.config.loading import load_config
from tood.engine.accumulation import accumulate_gradients, split_batch
from tood.engine.averaging import build_average
from tood.evaluation.loss_evaluator import LossEvaluator
from tood.modeling.phases import PHASES
from tools.benchmark.cases.common import random_ground_truth
from tools.benchmark.harness import time_alternately
from tools.benchmark.options import add_device_options


def random_batch(settings: argparse.Namespace) -> list[dict[str, Any]]:
    """Images of one size with 10 GT boxes each."""
    width, height = settings.size
    batch = []
    for seed in range(settings.batch):
        torch.manual_seed(seed)
        boxes, classes = random_ground_truth(10, height, width, settings.device)
        instances = Instances((height, width))
        instances.gt_boxes, instances.gt_classes = Boxes(boxes), classes
        batch.append({"image": torch.rand(3, height, width) * 255, "instances": instances})
    return batch


def build_steps(
    cfg: CfgNode, batch: list[dict[str, Any]], phase: str
) -> dict[str, Callable[[], object]]:
    """An optimizer step of each kind, of one model, whose learning rate is 0.

    Args:
        cfg: of the model.
        batch: of each step.
        phase: of training.
    """
    model = build_model(cfg).train()
    model.set_phase(phase)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.0, momentum=0.9)
    cfg.SOLVER.EMA.ENABLED = True
    average = build_average(cfg, model)
    assert average is not None

    def step(num_parts: int, with_average: bool = False) -> None:
        optimizer.zero_grad()
        if num_parts == 1:
            losses: dict[str, Tensor] = model(batch)
            sum(losses.values()).backward()  # type: ignore[union-attr]
        else:
            accumulate_gradients(model, split_batch(batch, num_parts))
        optimizer.step()
        if with_average:
            average.update()

    steps: dict[str, Callable[[], object]] = {
        "whole batch": lambda: step(1),
        "with EMA": lambda: step(1, with_average=True),
    }
    for parts in (2, 4):
        if len(batch) % parts == 0:
            steps[f"{parts} parts"] = lambda n=parts: step(n)
    return steps


def kept_for_backward(cfg: CfgNode, batch: list[dict[str, Any]], phase: str) -> float:
    """MiB of tensors that autograd keeps after a forward pass, without parameters."""
    model = build_model(cfg).train()
    model.set_phase(phase)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        losses = model(batch)
    del losses
    return sum(sizes.values()) / 2**20


def seconds(function: Callable[[], object], repeat: int = 20) -> float:
    """Median time of a call, after one to warm up."""
    function()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def time_statistics(cfg: CfgNode, batch: list[dict[str, Any]]) -> float:
    """Seconds that the assignment statistics of a batch take."""
    model = build_model(cfg).train()
    model.set_phase("aligned")
    recorded: list[tuple[Tensor, Tensor]] = []
    update = model.assignment_statistics.update
    model.assignment_statistics.update = lambda *args: recorded.append(args)
    model(batch)
    return seconds(lambda: [update(*args) for args in recorded])


def time_average(cfg: CfgNode) -> float:
    """Seconds that an update of the average takes."""
    cfg.SOLVER.EMA.ENABLED = True
    average = build_average(cfg, build_model(cfg))
    assert average is not None
    return seconds(average.update)


def print_validation_loss(settings: argparse.Namespace) -> None:
    """Print what the losses of images cost that are evaluated, by phase."""
    opts = [*settings.opts, "MODEL.DEVICE", settings.device, "MODEL.WEIGHTS", ""]
    model = build_model(load_config(settings.config_file, opts)).eval()
    batch, rows = random_batch(settings), []
    for phase in PHASES:
        model.set_phase(phase)
        evaluator = LossEvaluator(model)
        evaluator.reset()
        with torch.no_grad():
            times = time_alternately(
                {
                    "detection": functools.partial(model, batch),
                    "losses": functools.partial(evaluator.process, batch, []),
                },
                settings.rounds,
                settings.device,
            )
        detection, losses = (statistics.median(x) / len(batch) for x in times.values())
        rows.append((phase, detection, losses, losses / detection))
    header = ["phase", "detection, ms per image", "losses, ms per image", "ratio"]
    print(tabulate(rows, header, tablefmt="github", floatfmt=("", ".0f", ".1f", ".3f")))


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmark.training_step",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--rounds", type=int, default=5, help="timed, after one to warm up")
    parser.add_argument(
        "--validation-loss", action="store_true", help="time that instead of training steps"
    )
    add_device_options(parser)
    parser.set_defaults(batch=4, size=(320, 320))
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ...")
    return parser


def print_tables(settings: argparse.Namespace) -> None:
    """Print a table for each phase, and what costs less than two steps differ."""
    opts = [*settings.opts, "MODEL.DEVICE", settings.device, "MODEL.WEIGHTS", ""]
    cfg = load_config(settings.config_file, opts)
    batch = random_batch(settings)
    for phase in PHASES:
        steps = build_steps(cfg, batch, phase)
        times = time_alternately(steps, settings.rounds, settings.device)
        whole = statistics.median(times["whole batch"])
        rows = [
            (name, statistics.median(values), statistics.median(values) / whole)
            for name, values in times.items()
        ]
        print(f"\n{phase}\n")
        print(
            tabulate(rows, ["step", "ms", "ratio"], tablefmt="github", floatfmt=("", ".0f", ".2f"))
        )
    memory = [
        (parts, kept_for_backward(cfg, batch[: len(batch) // parts], "aligned"))
        for parts in (1, 2, 4)
        if len(batch) % parts == 0
    ]
    print()
    print(tabulate(memory, ["parts", "MiB kept for backward"], tablefmt="github", floatfmt=".0f"))
    print(f"\nEMA alone: {1e3 * time_average(cfg):.1f} ms")
    print(f"Statistics alone: {1e3 * time_statistics(cfg, batch):.1f} ms")


if __name__ == "__main__":
    with exit_on_user_error():
        arguments = make_parser().parse_args()
        if arguments.validation_loss:
            print_validation_loss(arguments)
        else:
            print_tables(arguments)
