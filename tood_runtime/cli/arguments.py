"""The options of each command."""

import argparse

from .common import (
    add_config_options,
    add_json,
    add_model,
    add_output,
    add_pairs,
    add_size,
    add_test_dataset,
    add_weights,
    positive_int,
    whole_number,
)
from .detection_options import (
    INPUTS_HELP,
    add_acceleration,
    add_augmentation,
    add_detection,
    add_outputs,
)
from .parser import CommandParser

# What `tood convert` can write. tood.checkpoint has the layouts, but imports torch.
LAYOUTS = ("tood", "mmdet", "authors")

# ---- train and eval -----------------------------------------------------------------------------


def _add_launch(parser: CommandParser) -> None:
    """Add the options of detectron2's ``launch``; None where they are not given."""
    parser.add_argument(
        "--num-gpus",
        type=int,
        help="GPUs, or processes on the CPU, per machine (default: 1, or what torchrun or srun has "
        "started)",
    )
    parser.add_argument("--num-machines", type=int, help="machines (default: 1)")
    parser.add_argument("--machine-rank", type=int, help="rank of this machine, from 0")
    parser.add_argument(
        "--dist-url",
        metavar="URL",
        help="tcp://HOST:PORT of machine 0, where the processes of all machines find each other",
    )


def add_train(parser: CommandParser) -> None:
    """Add the options of ``tood train``: detectron2's, and those of all commands."""
    add_model(parser)
    add_weights(parser)
    add_pairs(parser)
    add_output(parser, "checkpoints, logs and metrics, the same as --opts OUTPUT_DIR FOLDER")
    parser.add_argument(
        "--resume", action="store_true", help="continue from the last checkpoint in the folder"
    )
    parser.add_argument("--eval-only", action="store_true", help="evaluate only, as tood eval does")
    parser.add_argument(
        "--requeue",
        action="store_true",
        help="after SIGUSR1 and its checkpoint, let SLURM start the job again",
    )
    _add_launch(parser)
    add_config_options(parser)


def add_eval(parser: CommandParser) -> None:
    """Add the options of ``tood eval``: those of training that evaluation needs."""
    add_model(parser, exported=True)
    add_weights(parser)
    add_pairs(parser)
    add_test_dataset(parser)
    add_output(parser, "logs and results, the same as --opts OUTPUT_DIR FOLDER")
    _add_launch(parser)
    add_config_options(parser)
    parser.set_defaults(eval_only=True, resume=False, requeue=False)


# ---- The other commands -------------------------------------------------------------------------


def add_detect(parser: CommandParser) -> None:
    """Add the options of ``tood detect``."""
    add_model(parser, exported=True)
    add_weights(parser)
    parser.add_argument("inputs", nargs="*", metavar="IMAGE", help=INPUTS_HELP)
    parser.add_argument(
        "--input",
        nargs="+",
        action="extend",
        default=[],
        metavar="IMAGE",
        help="same as IMAGE (detectron2's spelling)",
    )
    add_outputs(parser)
    add_detection(parser)
    add_augmentation(parser)
    add_acceleration(parser)
    add_config_options(parser)


def join_inputs(parser: CommandParser, args: argparse.Namespace) -> None:
    """Join the two ways to name images."""
    args.inputs += vars(args).pop("input")
    parser.refuse_keys(args.inputs)
    if not args.inputs:
        parser.error("Name at least one IMAGE: a file, a folder, a URL or a glob pattern")


def add_info(parser: CommandParser) -> None:
    """Add the options of ``tood info``."""
    add_model(parser, several=True)
    add_size(parser, default=(1280, 800))
    add_json(parser, "the numbers")
    add_config_options(parser)


def add_convert(parser: CommandParser) -> None:
    """Add the options of ``tood convert``."""
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="a checkpoint file or URL in any layout that MODEL.WEIGHTS takes, a model-zoo name, "
        "or a training run's folder",
    )
    parser.add_argument("output", metavar="OUTPUT", help="file to write; it must not exist")
    parser.add_argument(
        "--to",
        choices=LAYOUTS,
        default="tood",
        metavar="LAYOUT",
        help=f"naming scheme of the output: {', '.join(LAYOUTS)} (default: tood)",
    )
    parser.add_argument(
        "--config-file",
        metavar="FILE",
        help="check that the weights fill this config's model, and write its class names into a "
        "file for MMDetection (default: that of the model-zoo name or the folder)",
    )


def add_analyze(parser: CommandParser) -> None:
    """Add the options of ``tood analyze``."""
    add_model(parser)
    add_weights(parser)
    add_test_dataset(parser)
    add_output(parser, "the results of both evaluators (default: they are not written)")
    add_json(parser, "the numbers")
    add_config_options(parser)


def add_visualize(parser: CommandParser) -> None:
    """Add the options of ``tood visualize``."""
    add_model(parser, several=True)
    add_weights(parser, several=True)
    add_test_dataset(parser)
    add_output(parser, "the figures", default="output/alignment")
    parser.add_argument(
        "--num-images", type=positive_int, default=4, help="images, from the first (default: 4)"
    )
    parser.add_argument(
        "--num-instances",
        type=positive_int,
        default=3,
        help="GT boxes of each image, from the largest (default: 3)",
    )
    add_config_options(parser)


def validate_weights_count(parser: CommandParser, args: argparse.Namespace) -> None:
    """Check the number of models and weight files."""
    num_models = 1 if args.config_file is not None else len(args.models)
    if not num_models:
        parser.error("Name at least one MODEL")
    if args.weights and len(args.weights) != num_models:
        parser.error(
            f"--weights needs one file for each MODEL, got {len(args.weights)} for {num_models}"
        )


def add_quickstart(parser: CommandParser) -> None:
    """Add the options of ``tood quickstart``."""
    add_output(parser, "all results", default="output/quickstart")
    parser.add_argument(
        "--short", action="store_true", help="a few iterations only, to test the installation"
    )


def add_check_data(parser: CommandParser) -> None:
    """Add the options of ``tood check-data``: those of training that choose the data."""
    add_model(parser)
    add_pairs(parser)
    add_output(parser, "a page with images (index.html) and all numbers (report.json)")
    add_json(parser, "all numbers")
    parser.add_argument(
        "--num-images",
        type=positive_int,
        default=12,
        help="sample images of each set on the page (default: 12)",
    )
    parser.add_argument(
        "--no-decode",
        dest="decode",
        action="store_false",
        help="read the headers of images only: faster, but finds neither images that are broken "
        "later on nor edited copies of training images in the test set",
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit with code 1 for warnings too, not only errors"
    )
    add_config_options(parser)


def add_show_batch(parser: CommandParser) -> None:
    """Add the options of ``tood show-batch``: those of training that choose the data."""
    add_model(parser)
    add_pairs(parser)
    add_output(parser, "the drawings", default="output/batches")
    parser.add_argument(
        "--num-batches", type=positive_int, default=4, help="batches to draw (default: 4)"
    )
    parser.add_argument(
        "--iteration",
        type=whole_number,
        default=0,
        help="the iteration of the first one, such as one of the last epoch (default: 0)",
    )
    add_config_options(parser)


def add_nothing(parser: CommandParser) -> None:
    """The command has no options."""
