"""``tood info``: parameters and FLOPs of models by part."""

import argparse

from detectron2.modeling import build_model

from tood_runtime.cli.parser import EXIT_OK
from tood_runtime.output_files import validate_output_file, write_json

from ..analysis.complexity import COLUMNS, FLOAT_FORMATS, describe
from ..model_zoo import MODELS
from .common import load_model_config, split_models, table


def main(args: argparse.Namespace) -> int:
    """Print one table per model, and write the numbers where ``--json`` says.

    Args:
        args: the options of ``tood info``.
    """
    validate_output_file("--json", args.json)
    if not args.models and args.config_file is None:
        args.models = [model.name for model in MODELS]
    width, height = args.size
    numbers: dict[str, dict[str, dict[str, float]]] = {}
    for options in split_models(args):
        name = options.model or options.config_file
        # Counting needs no weights, and the CPU is always there.
        cfg = load_model_config(options, trained=False, opts=["MODEL.DEVICE", args.device or "cpu"])
        rows = describe(build_model(cfg).eval(), args.size)
        print(f"\n{name}, {width}x{height}")
        print(table(rows, COLUMNS, FLOAT_FORMATS), flush=True)
        numbers[name] = {part: dict(zip(COLUMNS[1:], row, strict=True)) for part, *row in rows}
    if args.json is not None:
        write_json(args.json, numbers)
    return EXIT_OK
