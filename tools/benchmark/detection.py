"""Images per second of detection from files, end to end, next to detectron2's own way.

python -m tools.benchmark.detection                      # R50, 8 images of 640x480
python -m tools.benchmark.detection --model quickstart/TOOD-R18-shapes --size 160x160 --images 64
python -m tools.benchmark.detection --device cuda --images 64 --batch-sizes 1 8
python -m tools.benchmark.detection --memory 12000x9000  # peak memory of one sliced image
python -m tools.benchmark.detection --tta                # test-time augmentation

All ways take turns, round after round, on the same files and threads; ratios are those of medians
to the bare model, which is a loop of read_image, detectron2's resize and the model. RetinaNet has
the same backbone and runs in detectron2's DefaultPredictor. Weights are random, with about 1000
candidates per image in TOOD, so NMS has the work that it has on photographs; RetinaNet's random
weights give it less.
"""

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import tood  # noqa: F401  # imported first: reports missing dependencies

# isort: split
import cv2
import numpy as np
import torch
from detectron2 import model_zoo
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode, get_cfg
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from PIL import Image
from tabulate import tabulate
from torch import nn

from tood.config.loading import load_config
from tood.data.transforms import ResizeShortestEdge, convert_format
from tood.inference import Detector
from tood_runtime.cli.common import image_size
from tood_runtime.detection_run import DetectionRun
from tood_runtime.image_io import read_image
from tood_runtime.image_writing import save_image
from tood_runtime.outputs import Drawings
from tood_runtime.outputs.video_file import VideoWriter
from tood_runtime.sources import collect_inputs
from tools import CONFIGS
from tools.benchmark.harness import time_alternately
from tools.benchmark.runtimes import build_random_model

Call = Callable[[], object]
_RETINANET = "COCO-Detection/retinanet_R_50_FPN_1x.yaml"


def main(argv: Sequence[str] | None = None) -> None:
    """Print one table.

    Args:
        argv: command line; None for that of the process.
    """
    args = make_parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        if args.memory:
            measure_memory(args, Path(folder))
            return
        build = build_views if args.tta else build_ways
        ways = dict(build(args, Path(folder)))
        times = time_alternately(ways, args.rounds, args.device)
    first = next(iter(ways))
    bare = statistics.median(times[first])
    rows = [
        [name, 1000 * args.images / statistics.median(values), statistics.median(values) / bare]
        for name, values in times.items()
    ]
    width, height = args.size
    print(
        f"{args.model} on {args.device}, {args.images} images of {width}x{height}, "
        f"{args.threads} threads, {args.rounds} rounds"
    )
    header = ["way", "images/s", f"time of the {first}'s"]
    print(tabulate(rows, header, tablefmt="github", floatfmt=("", ".2f", ".2f")))
    if args.json:
        Path(args.json).write_text(json.dumps(times, indent=1))


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmark.detection",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="TOOD-R50-1x", help="name of a config")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--size", type=image_size, default=(640, 480), metavar="WIDTHxHEIGHT")
    parser.add_argument("--images", type=int, default=8, help="number of images")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="timed runs of each way")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--no-slices", action="store_true", help="leave the slow ways out")
    parser.add_argument("--tta", action="store_true", help="time test-time augmentation instead")
    parser.add_argument("--memory", type=image_size, metavar="WIDTHxHEIGHT", help="see above")
    parser.add_argument("--json", help="also write the times to this file")
    return parser


def build_ways(args: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Call]]:
    """Every way to detect objects in the same images: its name, and one run over all of them."""
    files = write_images(folder / "images", args.size, args.images)
    model, cfg = build_model_of(args.model, args.device)
    detector = Detector(model, cfg)
    threshold = model.test_score_thresh
    resize = ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)

    def bare() -> None:
        for file in files:
            pixels = convert_format(read_image(file), cfg.INPUT.FORMAT)
            resized = resize.get_transform(pixels).apply_image(pixels)
            image = torch.from_numpy(resized.astype(np.float32).transpose(2, 0, 1).copy())
            height, width = pixels.shape[:2]
            with torch.no_grad():
                model([{"image": image, "height": height, "width": width}])

    def call() -> None:
        for file in files:
            detector(file, score_threshold=threshold)

    def predict(source: object, by: Detector = detector, **options: object) -> None:
        for _ in by.predict(source, score_threshold=threshold, **options):
            pass

    yield "bare model", bare
    yield "detector(file)", call
    for size in args.batch_sizes:
        yield (
            f"predict(folder, batch_size={size})",
            lambda s=size: predict(folder / "images", batch_size=s),
        )
    if args.device == "cuda":
        half = Detector(model, cfg, precision="float16")
        for size in args.batch_sizes:
            yield (
                f"the same in float16, batch_size={size}",
                lambda s=size: predict(folder / "images", half, batch_size=s),
            )
    if find_spec("av") is not None:
        video = write_video(folder / "clip.mp4", files)
        yield "predict(video)", lambda: predict(video)
    yield (
        "a run with drawings, as tood detect",
        lambda: run_with_drawings(detector, folder / "images", folder / "drawn"),
    )
    side = max(args.size) // 2
    for size in [] if args.no_slices else args.batch_sizes:
        yield (
            f"slices of {side} pixels, batch_size={size}",
            lambda s=size: predict(folder / "images", slice_size=side, batch_size=s),
        )
    if args.model == "TOOD-R50-1x":
        retinanet = build_retinanet(folder, args.device)

        def default_predictor() -> None:
            for file in files:
                retinanet(cv2.imread(str(file)))

        yield "RetinaNet, DefaultPredictor", default_predictor


def build_views(args: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Call]]:
    """Plain detection, and several kinds of test-time augmentation."""
    files = write_images(folder / "images", args.size, args.images)
    model, cfg = build_model_of(args.model, args.device)

    def run(detector: Detector) -> None:
        for file in files:
            detector(file, score_threshold=model.test_score_thresh)

    plain = Detector(model, cfg)
    yield "plain detector", partial(run, plain)
    for name, factors, flip in (
        ("flip", (1.0,), True),
        ("2 sizes", (1.0, 1.2), False),
        ("2 sizes and flip", (1.0, 1.2), True),
        ("3 sizes", (0.8, 1.0, 1.2), False),
        ("3 sizes and flip", (0.8, 1.0, 1.2), True),
    ):
        node = cfg.TEST.AUG
        node.MIN_SIZES = [round(cfg.INPUT.MIN_SIZE_TEST * factor) for factor in factors]
        node.FLIP = flip
        yield name, partial(run, Detector(model, cfg, tta=True))


def build_model_of(name: str, device: str) -> tuple[nn.Module, CfgNode]:
    """A model with random weights that resizes images as its config says."""
    node = load_config(str(CONFIGS / f"{name}.yaml")).INPUT
    return build_random_model(name, (node.MAX_SIZE_TEST, node.MIN_SIZE_TEST), device)


def run_with_drawings(detector: Detector, folder: Path, output: Path) -> None:
    """Read, detect, draw and write."""
    inputs = collect_inputs([folder])
    DetectionRun(detector, inputs, [Drawings(str(output), inputs)]).run()


def build_retinanet(folder: Path, device: str) -> DefaultPredictor:
    """detectron2's RetinaNet R50 with random weights."""
    cfg: CfgNode = get_cfg()
    cfg.merge_from_file(model_zoo.get_config_file(_RETINANET))
    cfg.MODEL.DEVICE = device
    torch.manual_seed(0)
    DetectionCheckpointer(build_model(cfg), str(folder)).save("retinanet")
    cfg.MODEL.WEIGHTS = str(folder / "retinanet.pth")
    return DefaultPredictor(cfg)


def write_images(folder: Path, size: tuple[int, int], count: int) -> list[Path]:
    """JPEG files of smooth noise, which compresses about as photographs do."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    files = []
    for index in range(count):
        coarse = generator.integers(0, 256, (size[1] // 8 + 1, size[0] // 8 + 1, 3), np.uint8)
        image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        files.append(folder / f"{index:04d}.jpg")
        save_image(image, files[-1])
    return files


def write_video(path: Path, files: Sequence[Path]) -> Path:
    """The images as frames."""
    with Image.open(files[0]) as first:
        writer = VideoWriter(path, first.size, Fraction(25))
    for index, file in enumerate(files):
        writer.write(Image.fromarray(read_image(file)), index / 25)
    writer.close()
    return path


def measure_memory(args: argparse.Namespace, folder: Path) -> None:
    """Print the peak memory of detecting in one large image, in slices."""
    width, height = args.memory
    (file,) = write_images(folder / "images", args.memory, 1)
    model, cfg = build_model_of(args.model, args.device)
    detector = Detector(model, cfg)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    for size in args.batch_sizes:
        options = {"slice_size": 640, "batch_size": size, "score_threshold": 0.5}
        (found,) = detector.predict(file, **options)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{args.model}, {width}x{height} in slices of 640, batch_size {size}: "
            f"{len(found)} detections, {time.perf_counter() - start:.0f} s, peak {peak:.0f} MiB "
            f"(before: {before:.0f} MiB; the image has {width * height * 3 / 2**20:.0f} MiB)"
        )


if __name__ == "__main__":
    main()
