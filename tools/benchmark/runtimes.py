"""Time exported models in every runtime next to the model itself, from pixels to detections.

python -m tools.benchmark.runtimes                                   # R50 and R101-DCN at 800x1216
python -m tools.benchmark.runtimes --models TOOD-R50-1x --size 640x480 --rounds 9 --json r50.json

All variants of a model are called in turn, round after round, on the same threads; ratios are
those of medians to the eager model in float32. Weights are random, with about 1000 candidates per
image, so NMS has the work that it has on photographs; int8 is calibrated on noise, so its time
holds and its detections do not. "dynamic" files take any size, "fixed" ones only this.
bfloat16 is timed where the CPU computes in it; elsewhere it is emulated and takes minutes.
"""

import argparse
import json
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path

import tood  # noqa: F401  # imported first: reports missing dependencies

# isort: split
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from PIL import Image
from tabulate import tabulate
from torch import nn

from tood.cli.common import exit_on_user_error
from tood.config.loading import load_config
from tood.export import ExportOptions, export_model
from tood_runtime.backends import open_backend
from tood_runtime.cli.common import image_size
from tools import CONFIGS
from tools.benchmark.harness import time_alternately

MODELS = ("TOOD-R50-1x", "TOOD-R101-DCN-2x")
CANDIDATES, CALIBRATION_IMAGES = 1000, 8
# Flags that decide how fast bfloat16 and int8 can be.
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")

Call = Callable[[], object]


def main(argv: Sequence[str] | None = None) -> None:
    """Print one table per model.

    Args:
        argv: command line; None for that of the process.
    """
    args = make_parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    print(
        f"{platform.machine()}, {args.threads} threads, flags: {', '.join(cpu_flags()) or 'none'}"
    )
    results = {}
    for name in args.models:
        with tempfile.TemporaryDirectory() as folder:
            variants = dict(build_variants(name, args, Path(folder)))
            times = time_alternately(variants, args.rounds)
        results[name] = times
        eager = statistics.median(times["eager, float32"])
        rows = [
            [variant, statistics.median(values), statistics.median(values) / eager]
            for variant, values in times.items()
        ]
        print(f"\n{name}, {args.size[0]}x{args.size[1]} pixels, batch 1, {args.rounds} rounds")
        header = ["variant", "ms", "of eager"]
        print(tabulate(rows, header, tablefmt="github", floatfmt=("", ".0f", ".2f")), flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1))


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmark.runtimes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="names of configs")
    parser.add_argument("--size", type=image_size, default=(1216, 800), metavar="WIDTHxHEIGHT")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="timed calls of each variant")
    parser.add_argument("--compile", action="store_true", help="time torch.compile too")
    parser.add_argument("--int8", action="store_true", help="time int8 too")
    parser.add_argument("--json", help="also write the times to this file")
    return parser


def cpu_flags() -> list[str]:
    """Those of :data:`CPU_FLAGS` that this machine has (Linux only)."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return []
    words = set(text.split())
    return [flag for flag in CPU_FLAGS if flag in words]


def build_variants(name: str, args: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Call]]:
    """Every way to run a model: its name, and one call."""
    width, height = args.size
    model, cfg = build_random_model(name, args.size)
    pixels = np.random.default_rng(0).integers(0, 256, (3, height, width)).astype(np.float32)
    inputs = [{"image": torch.from_numpy(pixels)}]
    sizes = np.array([[height, width]])

    def eager(network: nn.Module, dtype: torch.dtype | None = None) -> object:
        with torch.no_grad(), torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            return network(inputs)

    yield "eager, float32", lambda: eager(model)
    has_bfloat16 = bool({"avx512_bf16", "amx_bf16"} & set(cpu_flags()))
    if has_bfloat16:
        yield "eager, bfloat16", lambda: eager(model, torch.bfloat16)
    if args.compile:
        compiled = compile_network(model)
        yield "torch.compile, float32", lambda: eager(compiled)
    calibration = write_noise(folder / "noise", args.size) if args.int8 else []
    for runtime, suffix in (("ONNX Runtime", ".onnx"), ("OpenVINO", ".xml")):
        kind = "onnx" if suffix == ".onnx" else "openvino"
        files = {
            "float32, dynamic": ({}, None),
            "float32, fixed": ({"size": args.size, "batch": 1}, None),
        }
        if kind == "openvino" and has_bfloat16:
            files["bfloat16, dynamic"] = ({}, "bfloat16")
        if args.int8:
            files["int8, dynamic"] = ({"precision": "int8"}, None)
        for title, (options, precision) in files.items():
            path = folder / f"{title.replace(', ', '-')}{suffix}"
            export_model(
                model, cfg, path, ExportOptions(format=kind, **options), name=name,
                calibration_images=calibration, verify=False,
            )  # fmt: skip
            backend = open_backend(path, threads=args.threads, precision=precision)
            print(f"  {runtime}, {title}: exported", file=sys.stderr, flush=True)
            yield f"{runtime}, {title}", lambda b=backend: b.run(pixels[None], sizes, sizes)


def compile_network(model: nn.Module) -> nn.Module:
    """A copy whose backbone and head are compiled; its NMS, with sizes of its own, is not."""
    copy = deepcopy(model)
    copy.backbone = torch.compile(copy.backbone)
    copy.predict = torch.compile(copy.predict)
    return copy


def build_random_model(
    name: str, size: tuple[int, int], device: str = "cpu"
) -> tuple[nn.Module, CfgNode]:
    """A model whose scores spread, and a threshold that about 1000 pairs exceed."""
    torch.manual_seed(0)
    cfg = load_config(str(CONFIGS / f"{name}.yaml"), ["MODEL.DEVICE", device, "MODEL.WEIGHTS", ""])
    cfg.INPUT.MAX_SIZE_TEST, cfg.INPUT.MIN_SIZE_TEST = max(size), min(size)
    model = build_model(cfg).eval()
    with torch.no_grad():
        for parameter in model.head.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.05)
        image = torch.rand(3, size[1], size[0]) * 255
        tensor = model.preprocess_image([{"image": image}]).tensor
        _, predictions = model.predict(model.backbone(tensor))
        scores = predictions.flatten().scores.flatten()
    threshold = float(scores.topk(CANDIDATES).values[-1])
    cfg.MODEL.TOOD.SCORE_THRESH_TEST = model.test_score_thresh = threshold
    return model, cfg


def write_noise(folder: Path, size: tuple[int, int]) -> list[Path]:
    """Images of noise to calibrate with."""
    folder.mkdir()
    generator = np.random.default_rng(1)
    paths = [folder / f"{i}.png" for i in range(CALIBRATION_IMAGES)]
    for path in paths:
        pixels = generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, compress_level=1)
    return paths


if __name__ == "__main__":
    with exit_on_user_error():
        main()
