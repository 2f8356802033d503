"""Carry weights over: MMDetection's or the authors' TOOD to this project's names, or back.

tools/convert_checkpoint.py tood_r50_fpn_1x_coco.pth TOOD-R50-1x.pth
tools/convert_checkpoint.py model_final.pth mmdet.pth --to mmdet --config-file output/config.yaml

The programs here read all of these as they are; a converted file is for keeping, and for other
programs. Nothing is computed, so the way there and back gives the same bits; only copies of the
weights and what is no tensor are lost, and batch norm's counters of batches are 0 where they were
missing. A file that holds other Python objects beside weights is refused.
"""

import argparse
import sys
from pathlib import Path

import tood  # noqa: F401  (before the others: it explains what is missing)

# isort: split
import torch
from detectron2.modeling import build_model
from detectron2.utils.logger import setup_logger

from tood.checkpoint import TOODCheckpointer
from tood.checkpoint.key_mapping import (
    BACKBONE_PREFIX,
    EXPORT_LAYOUTS,
    LAYOUT_DESCRIPTIONS,
    detect_layout,
    from_tood_keys,
    is_backbone_only,
    to_tood_keys,
)
from tood.checkpoint.safe_load import load_file, resolve_path
from tood.checkpoint.state_dict import extract_state_dict
from tood.config.loading import load_config
from tood.errors import CheckpointError, exit_on_user_error


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", help="file or URL, in any layout that MODEL.WEIGHTS takes")
    parser.add_argument("output", help="file to write")
    parser.add_argument(
        "--to", choices=("tood", *EXPORT_LAYOUTS), default="tood", help="whose names the output has"
    )
    parser.add_argument(
        "--config-file",
        help="check first that the weights fill this config's model; its class names are noted in "
        "a file for MMDetection",
    )
    return parser.parse_args()


def convert(path: str, to: str) -> dict[str, torch.Tensor]:
    """The weights of a file with the names of another layout.

    Args:
        path: a file or URL.
        to: "tood", or one of :data:`EXPORT_LAYOUTS`.

    Raises:
        CheckpointError: the file cannot be read, or has weights without a name there.
    """
    weights = extract_state_dict(load_file(resolve_path(path)), path)
    layout = detect_layout(weights.tensors, path)
    print(f"{path}: {LAYOUT_DESCRIPTIONS[layout]}, {len(weights.tensors)} tensors")
    if weights.ignored:
        print(f"not carried over: {', '.join(weights.ignored)}")
    state_dict, _ = to_tood_keys(weights.tensors, layout)
    if not is_backbone_only(layout):
        # Also where our own names stay: it raises for names that are none of a TOOD.
        theirs = from_tood_keys(state_dict, "mmdet" if to == "tood" else to)
        return state_dict if to == "tood" else theirs
    if to != "tood":
        raise CheckpointError(f"{path} is a backbone only: it can be converted with --to tood")
    return {key.removeprefix(BACKBONE_PREFIX): value for key, value in state_dict.items()}


def main() -> None:
    """Convert one file."""
    args = parse_args()
    setup_logger(name="tood")
    setup_logger(name="fvcore")
    output = Path(args.output)
    if output.exists():
        raise CheckpointError(f"{output} exists already: name another file, or remove it")
    state_dict = convert(args.input, args.to)
    contents = {"model": state_dict}
    if args.to != "tood":
        contents = {"state_dict": state_dict, "meta": {}}
    if args.config_file:
        cfg = load_config(args.config_file, ["MODEL.DEVICE", "cpu"])
        is_backbone = "stem.conv1.weight" in state_dict
        TOODCheckpointer(build_model(cfg), strict=not is_backbone).load(args.input)
        names = tuple(cfg.MODEL.TOOD.CLASS_NAMES)
        if args.to != "tood" and names:  # where MMDetection 2.x and 3.x look for them
            contents["meta"] = {"CLASSES": names, "dataset_meta": {"classes": names}}
    output.parent.mkdir(parents=True, exist_ok=True)
    torch.save(contents, output)
    print(f"{output}: {len(state_dict)} tensors")


if __name__ == "__main__":
    with exit_on_user_error():
        sys.exit(main())
