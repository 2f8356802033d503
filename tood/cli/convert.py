"""``tood convert``: write a checkpoint with the names of another layout."""

import argparse

from tood_runtime.cli.parser import EXIT_OK

from ..checkpoint.convert import convert_checkpoint, validate_new_file
from ..checkpoint.key_mapping import LAYOUT_DESCRIPTIONS
from ..config import load_config
from ..errors import CheckpointError, ConfigError
from ..model_zoo import ResolvedModel, find_weights, resolve
from .common import start_logging


def main(args: argparse.Namespace) -> int:
    """Convert one file, and print what was read and written.

    Args:
        args: the options of ``tood convert``.

    Raises:
        CheckpointError: the input cannot be converted, or the output exists.
    """
    start_logging()
    validate_new_file(args.output)  # before the work
    weights, model = find_source(args.input)
    # The model is built only to compare its keys, so it needs no GPU.
    opts = ["MODEL.DEVICE", "cpu"]
    if args.config_file:
        cfg = load_config(args.config_file, opts)
    else:
        cfg = model.load_config(opts) if model else None
    converted = convert_checkpoint(weights, args.to, cfg)
    source = converted.source
    print(f"{weights}: {LAYOUT_DESCRIPTIONS[source.layout]}, {len(source.tensors)} tensors")
    if source.ignored:
        print(f"ignored: {', '.join(source.ignored)}")
    if source.info is not None and source.info.is_average:
        print("The weights are an average over training (EMA).")
    converted.save(args.output)
    print(f"{args.output}: {len(converted.state_dict)} tensors with the names of {args.to}")
    return EXIT_OK


def find_source(name: str) -> tuple[str, ResolvedModel | None]:
    """Find the checkpoint and the config that a name stands for.

    Args:
        name: a model-zoo name, a training run's folder, a file or a URL.

    Returns:
        The checkpoint file or URL, and what has the config; None for a file or URL without one.

    Raises:
        ConfigError: the folder is not that of a training run.
        CheckpointError: the model or the folder has no trained weights.
    """
    weights = find_weights(name)
    return weights, _resolve_file(name) if weights == name else resolve(name)


def _resolve_file(name: str) -> ResolvedModel | None:
    try:
        model = resolve(name)
        return model if model.info is not None else None
    except (CheckpointError, ConfigError):
        return None  # no config in it, or not readable: the conversion says so
