r"""What int8 costs and gains: AP and time of a trained model for many settings of both quantizers.

python -m tools.experiments.quantization_table output/quickstart
python -m tools.experiments.quantization_table output/bccd --rows layers everything --opts ...

Exports the model, calibrates on its training images, evaluates every file on its test set, and
times all files alternately in one run, so that a busy machine slows them alike. Prints one table.
"""

import argparse
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tood  # noqa: F401  # imported first: reports missing dependencies

# isort: split
import numpy as np
import torch
from detectron2.config import CfgNode
from tabulate import tabulate

from tood.checkpoint import load_model
from tood.cli.common import exit_on_user_error
from tood.data.catalog import load_dataset
from tood.data.dataset import DetectionDataset
from tood.data.registration import setup_datasets
from tood.evaluation.coco_metrics import make_coco, run_coco_evaluation
from tood.export.exporter import export_model
from tood.export.networks import build_network
from tood.export.options import SUFFIXES, ExportOptions
from tood.export.quantize import QuantizationSettings, quantize
from tood.export.wrapper import ExportableNetwork
from tood.model_zoo import resolve
from tood_runtime.backends import open_backend
from tood_runtime.image_io import read_image
from tood_runtime.model_info import ModelInfo
from tood_runtime.preprocessing import ModelInput, prepare_batch
from tools.benchmark.harness import time_alternately

Settings = QuantizationSettings
Run = Callable[..., dict[str, Any]]
# The settings of each row, by kind of file; None is the float32 file.
ROWS: dict[str, dict[str, Settings | None]] = {
    "onnx": {
        "float32": None,
        "all convolutions and products": Settings("all", seven_bit_weights=False),
        "predictors in float": Settings("head", seven_bit_weights=False),
        "layers, 8-bit weights": Settings(seven_bit_weights=False),
        "layers": Settings(),
        "layers, mean of extremes": Settings(ranges="mean"),
        "layers, percentile": Settings(ranges="percentile"),
        "layers, symmetric": Settings(symmetric=True),
        "head in float": Settings("backbone"),
    },
    "openvino": {
        "float32": None,
        "everything": Settings("all", "mean", seven_bit_weights=False, symmetric=True),
        "everything, asymmetric": Settings("all", "mean", seven_bit_weights=False),
        "predictors in float": Settings("head", "mean", seven_bit_weights=False),
        "layers, 8-bit weights": Settings(ranges="mean", seven_bit_weights=False),
        "layers": Settings(ranges="mean"),
        "layers, extremes": Settings(ranges="minmax"),
        "layers, percentile": Settings(ranges="percentile"),
        "layers, symmetric": Settings(ranges="mean", symmetric=True),
        "layers, no bias correction": Settings(ranges="mean", bias_correction="none"),
        "layers, full bias correction": Settings(ranges="mean", bias_correction="full"),
        "head in float": Settings("backbone", "mean"),
    },
}


def export_float(
    cfg: CfgNode, name: str, folder: Path, kinds: Sequence[str]
) -> tuple[ExportableNetwork, ModelInfo, dict[str, Path]]:
    """The network, what its files say about it, and its float32 files by kind."""
    model = load_model(cfg)
    files = {kind: folder / f"float32{SUFFIXES[kind]}" for kind in kinds}
    for kind, path in files.items():
        result = export_model(model, cfg, path, ExportOptions(format=kind), name=name, verify=False)
    return build_network(model, ExportOptions()), result.info, files


def evaluate(run: Run, data: DetectionDataset, inputs: Sequence[ModelInput]) -> float:
    """AP (in percent) of what ``run`` returns for each image of the test set."""
    results = []
    for image_id, batch in enumerate(inputs, 1):
        found = {name: value[0] for name, value in run(*batch).items()}
        count = int(found["num_dets"])
        boxes = found["boxes"][:count].astype(float)
        boxes[:, 2:] -= boxes[:, :2]
        results += [
            {"image_id": image_id, "category_id": k + 1, "bbox": box, "score": score}
            for box, score, k in zip(
                boxes.tolist(), found["scores"].tolist(), found["labels"].tolist(), strict=False
            )
        ]
    return 100 * float(run_coco_evaluation(make_coco(data.to_coco()), results, "bbox").stats[0])


def make_eager(network: ExportableNetwork) -> Callable[..., dict[str, Any]]:
    """The PyTorch model with the interface of a file."""

    @torch.no_grad()
    def run(*arrays: Any) -> dict[str, Any]:
        values = network(*map(torch.from_numpy, arrays))
        names = network.output_names
        return {name: value.numpy() for name, value in zip(names, values, strict=True)}

    return run


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.experiments.quantization_table",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="folder of a training run, or a config")
    parser.add_argument("--kinds", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--rows", nargs="+", help="only these rows, and float32")
    parser.add_argument("--num-images", type=int, default=64, help="for calibration (64)")
    parser.add_argument("--rounds", type=int, default=15, help="of the timing (15)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", default="output/quantization", help="folder for all files")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ...")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Export, quantize, evaluate, time, and print the table.

    Args:
        argv: command line; None for that of the process.
    """
    args = make_parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    resolved = resolve(args.model)
    cfg = resolved.load_config(["MODEL.DEVICE", "cpu", *args.opts])
    if resolved.weights and "MODEL.WEIGHTS" not in args.opts:
        cfg.MODEL.WEIGHTS = str(resolved.weights)
    setup_datasets(cfg)
    calibration, data = load_dataset(cfg.DATASETS.TRAIN[0]), load_dataset(cfg.DATASETS.TEST[0])
    network, info, files = export_float(cfg, str(args.model), folder, args.kinds)
    inputs = [
        prepare_batch([read_image(path, info.apply_exif_orientation)], info)
        for path in data.file_names
    ]
    runs: dict[str, Run] = {"eager": make_eager(network)}
    aps: dict[str, float] = {}
    for kind in args.kinds:
        for row, settings in ROWS[kind].items():
            if settings and args.rows and row not in args.rows:
                continue
            path, name = files[kind], f"{kind}: {row}"
            if settings is not None:
                path = folder / f"{row.replace(' ', '-').replace(',', '')}{SUFFIXES[kind]}"
                chosen = calibration.file_names
                quantize(
                    files[kind], path, kind=kind, images=chosen, info=info,
                    num_images=args.num_images, settings=settings,
                )  # fmt: skip
            runs[name] = open_backend(path, threads=args.threads).run
            aps[name] = evaluate(runs[name], data, inputs)
            print(f"{name}: AP {aps[name]:.1f}", flush=True)
    calls = {name: functools.partial(run, *inputs[0]) for name, run in runs.items()}
    print_table(time_alternately(calls, args.rounds), aps, folder / "table.json")


def print_table(times: dict[str, list[float]], aps: dict[str, float], json_path: Path) -> None:
    """Print the table, and write it as JSON.

    Args:
        times: milliseconds of each file in each round, and of the eager model.
        aps: of the files.
        json_path: the file to write.
    """
    table = []
    for name, values in times.items():
        float_name = f"{name.partition(':')[0]}: float32"
        row: list[Any] = [name, None, None, float(np.median(values)), None]
        if name in aps:
            row[1:3] = aps[name], aps[name] - aps[float_name]
            row[4] = float(np.median(np.divide(values, times[float_name])))
        table.append([*row, float(np.median(np.divide(values, times["eager"])))])
    columns = ["", "AP", "difference", "ms", "time / float32", "time / eager"]
    formats = ("", ".1f", "+.1f", ".1f", ".2f", ".2f")
    print(tabulate(table, columns, "github", floatfmt=formats))
    rows = [dict(zip(columns, row, strict=True)) for row in table]
    json_path.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
