"""``tood convert``: write a checkpoint with the names of another layout."""

import argparse
from pathlib import Path

from tood_runtime.cli.parser import EXIT_OK

from ..checkpoint.convert import convert_checkpoint, validate_new_file
from ..checkpoint.key_mapping import LAYOUT_DESCRIPTIONS
from ..config import load_config
from ..errors import CheckpointError
from ..model_zoo import MODELS, resolve
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
    weights, config_file = find_weights(args.input)
    config_file = args.config_file or config_file
    # The model is built only to compare its keys, so it needs no GPU.
    cfg = load_config(config_file, ["MODEL.DEVICE", "cpu"]) if config_file else None
    converted = convert_checkpoint(weights, args.to, cfg)
    source = converted.source
    print(f"{weights}: {LAYOUT_DESCRIPTIONS[source.layout]}, {len(source.tensors)} tensors")
    if source.ignored:
        print(f"ignored: {', '.join(source.ignored)}")
    converted.save(args.output)
    print(f"{args.output}: {len(converted.state_dict)} tensors with the names of {args.to}")
    return EXIT_OK


def find_weights(name: str) -> tuple[str, str | None]:
    """Find the checkpoint and the config that a name stands for.

    Args:
        name: a model-zoo name, a training run's folder, a file or a URL.

    Returns:
        The checkpoint file or URL, and the config file; a file or URL has none.

    Raises:
        ConfigError: the folder is not that of a training run.
        CheckpointError: the model or the folder has no trained weights.
    """
    if name not in [model.name for model in MODELS] and not Path(name).is_dir():
        return name, None
    model = resolve(name)
    weights = model.require_weights()
    if weights is None:
        raise CheckpointError(f"{name} has no trained weights. Name a checkpoint file.")
    return weights, str(model.config_file)
