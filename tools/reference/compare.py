r"""Compare this project's models with MMDetection 3.3.0's, number by number.

python -m tools.reference.compare --config TOOD-R50-1x TOOD-R101-DCN-2x --input *.jpg
python -m tools.reference.compare --config TOOD-R50-1x --weights tood_r50_fpn_1x_coco.pth \
    --input a.jpg

Needs: pip install -e ".[mmdet]". Both models get the same weights (by default random ones for which
every part matters), images and synthetic ground truth. The table has the largest differences of
features, scores, boxes, detections, losses and one SGD step, in float32 and float64. In float64
rounding is negligible: differences there are differences between the functions. The rows "noise"
say how much MMDetection's own float32 numbers move when the input changes by 1e-7 of its values;
docs/background/fidelity.md explains.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence

import tood  # noqa: F401  # imported first: reports missing dependencies

# isort: split
import numpy as np
import torch
from PIL import Image
from tabulate import tabulate
from torch import Tensor

from tood.cli.common import exit_on_user_error
from tood.errors import DataError
from tood_runtime.image_io import read_image
from tools.reference.mmdet import MMDET_CONFIGS
from tools.reference.outputs import Comparison, ModelOutputs
from tools.reference.recipe import random_images

COLUMNS = [
    "features / range",
    "scores",
    "boxes, px",
    "detections",
    "their boxes, px",
    "losses, rel.",
    "SGD step, rel., median",
    "worst parameter",
]


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.reference.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", nargs="+", default=list(MMDET_CONFIGS), choices=MMDET_CONFIGS)
    parser.add_argument("--input", nargs="*", default=[], help="images, compared as one batch")
    parser.add_argument("--size", type=int, default=256, help="short side of the images, pixels")
    parser.add_argument("--weights", help="file or URL; for one config")
    return parser


def read_images(paths: list[str], size: int) -> list[np.ndarray]:
    """Images (H, W, 3) uint8, RGB, with short sides of ``size``; noise without any paths."""
    if not paths:
        return random_images()
    images = []
    for path in paths:
        image = Image.fromarray(read_image(path))
        scale = size / min(image.size)
        images.append(np.asarray(image.resize([round(side * scale) for side in image.size])))
    return images


def largest_difference(
    pairs: Iterable[tuple[Tensor, Tensor]], relative_to_range: bool = False
) -> float:
    """The largest difference in any pair, optionally divided by the range of its second tensor."""
    return max(
        (a - b).abs().max().item() / ((b.max() - b.min()).item() if relative_to_range else 1)
        for a, b in pairs
        if b.numel()
    )


def table_row(outputs: ModelOutputs, expected: ModelOutputs) -> list[str]:
    """The differences of two models, for :data:`COLUMNS`."""
    pairs = list(zip(outputs.detections, expected.detections, strict=True))
    same_classes = all(torch.equal(a[2], b[2]) for a, b in pairs)
    step_errors = sorted(
        ((outputs.updates[phase].get(name, 0 * update) - update).norm() / update.norm()).item()
        for phase, updates in expected.updates.items()
        for name, update in updates.items()
        if update.any()
    )
    numbers = [
        largest_difference(zip(outputs.features, expected.features, strict=True), True),
        largest_difference(zip(outputs.scores, expected.scores, strict=True)),
        largest_difference(zip(outputs.boxes, expected.boxes, strict=True)),
        largest_difference((a[0], b[0]) for a, b in pairs) if same_classes else None,
        max(abs(loss / expected.losses[name] - 1) for name, loss in outputs.losses.items()),
        step_errors[len(step_errors) // 2],
        step_errors[-1],
    ]
    row = ["-" if number is None else f"{number:.0e}" for number in numbers]
    detections = " + ".join(str(len(b[2])) for _, b in pairs) if same_classes else "differ"
    return [*row[:3], detections, *row[3:]]


def compare_config(
    name: str, images: list[np.ndarray], weights: str | None
) -> dict[str, list[str]]:
    """Rows of the table for one config, by title."""
    rows = {}
    for dtype in (torch.float32, torch.float64):
        models = Comparison(name, images, weights, dtype)
        expected = models.run_reference()
        rows[f"{name}, {str(dtype)[6:]}"] = table_row(models.run_candidate(), expected)
        if dtype == torch.float32:
            rows[f"{name}, noise"] = table_row(models.run_reference(noise=1e-7), expected)
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table.

    Args:
        argv: command line; None for that of the process.
    """
    args = make_parser().parse_args(argv)
    if args.weights and len(args.config) > 1:
        raise DataError("--weights fits one model only. Select it with --config.")
    torch.manual_seed(0)
    images = read_images(args.input, args.size)
    table: dict[str, list[str]] = {}
    for name in args.config:
        table.update(compare_config(name, images, args.weights))
        print(f"{name}: done", file=sys.stderr, flush=True)
    body = [[row, *cells] for row, cells in table.items()]
    print(tabulate(body, ["", *COLUMNS], tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
