"""The options that several commands share, and the types of their values.

An option that means the same thing is spelled the same way in all commands, because it is defined
here once.
"""

import argparse
import re

from .parser import CommandParser


def image_size(text: str) -> tuple[int, int]:
    """(width, height) in pixels from "WIDTHxHEIGHT"."""
    match = re.fullmatch(r"([1-9]\d*)[xX]([1-9]\d*)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, such as 1280x800")
    return int(match[1]), int(match[2])


def score(text: str) -> float:
    """A number between 0 and 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
    return value


def positive_int(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def whole_number(text: str) -> int:
    """A whole number of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def add_model(parser: CommandParser, several: bool = False, exported: bool = False) -> None:
    """Add the positional MODEL, ``--model`` for a single one, and ``--config-file``.

    Args:
        parser: of the command.
        several: whether the command takes any number of models, as ``args.models``.
        exported: whether it runs exported files too.
    """
    kinds = ["a model-zoo name", "a training run's folder", "a config file"]
    kinds += ["an exported file (.onnx, .xml, .torchscript, .pt2)"] if exported else []
    parser.add_argument(
        "models" if several else "model",
        nargs="*" if several else "?",
        metavar="MODEL",
        help=f"{', '.join(kinds[:-1])}, or {kinds[-1]}",
    )
    parser.add_argument(
        "--config-file", metavar="FILE", help="the config of the model, instead of MODEL"
    )
    if not several:
        parser.add_argument("--model", dest="named_model", metavar="MODEL", help="same as MODEL")


def add_weights(parser: CommandParser, several: bool = False) -> None:
    """Add ``--weights``; with ``several``, one file for each MODEL."""
    if several:
        parser.add_argument(
            "--weights",
            nargs="+",
            metavar="FILE",
            help="checkpoint files, URLs, model-zoo names or training runs' folders, one for each "
            "MODEL (default: those of the MODELs)",
        )
    else:
        parser.add_argument(
            "--weights",
            metavar="FILE",
            help="checkpoint file, URL, model-zoo name or training run's folder, the same as "
            "--opts MODEL.WEIGHTS FILE (default: those of MODEL, else the config's)",
        )


def add_pairs(parser: CommandParser) -> None:
    """Add detectron2's KEY VALUE pairs without ``--opts``."""
    parser.add_argument(
        "pairs", nargs="*", metavar="KEY VALUE", help="config options, the same as --opts"
    )


def add_config_options(parser: CommandParser) -> None:
    """Add ``--device`` and ``--opts``, which change the config of the model."""
    parser.add_argument(
        "--device",
        metavar="DEVICE",
        help="cpu, cuda, cuda:N or auto (default: the config's, or cpu without a GPU)",
    )
    add_opts(parser)


def add_opts(parser: CommandParser) -> None:
    """Add ``--opts``, which changes the config of the model."""
    parser.add_argument(
        "--opts",
        nargs="*",
        action="extend",
        default=[],
        metavar="KEY VALUE",
        help="config options, such as MODEL.TOOD.NUM_CLASSES 3",
    )


def add_output(parser: CommandParser, what: str, default: str | None = None) -> None:
    """Add ``--output``, a folder."""
    text = f"folder for {what}" + (f" (default: {default})" if default else "")
    parser.add_argument("--output", metavar="FOLDER", default=default, help=text)


def add_json(parser: CommandParser, what: str, *aliases: str) -> None:
    """Add ``--json``, a file to write."""
    parser.add_argument(
        "--json", *aliases, dest="json", metavar="FILE", help=f"write {what} to this file"
    )


def add_size(parser: CommandParser, default: tuple[int, int]) -> None:
    """Add ``--size``, that of an image."""
    parser.add_argument(
        "--size",
        type=image_size,
        default=default,
        metavar="WIDTHxHEIGHT",
        help=f"image size in pixels (default: {default[0]}x{default[1]})",
    )


def add_test_dataset(parser: CommandParser) -> None:
    """Add ``--annotations`` and ``--images``, the dataset that the model is run on."""
    parser.add_argument(
        "--annotations",
        metavar="PATH",
        help="ground truth (COCO, YOLO, Pascal VOC or Open Images), the same as --opts "
        "DATASETS.TEST_ANNOTATIONS PATH",
    )
    parser.add_argument(
        "--images",
        metavar="FOLDER",
        help="its images, the same as --opts DATASETS.TEST_IMAGES FOLDER",
    )
