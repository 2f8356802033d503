"""What the commands share: errors in one line, the config of a model, and files."""

import argparse
import errno
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from detectron2.config import CfgNode
from detectron2.utils.logger import setup_logger
from tabulate import tabulate

from tood_runtime.cli.parser import report_error
from tood_runtime.image_io import ImageReadError
from tood_runtime.image_writing import ImageWriteError
from tood_runtime.missing_packages import MissingPackageError
from tood_runtime.model_files import is_model_file
from tood_runtime.model_info import ModelFileError
from tood_runtime.output_files import OutputError
from tood_runtime.prediction import OptionError
from tood_runtime.serving.errors import ServerError
from tood_runtime.sources import SourceError

from ..errors import ConfigError, TOODError
from ..model_zoo import find_weights, resolve

# What the user can fix. tood_runtime has its own errors, because it must not import this package.
USER_ERRORS = (
    TOODError,
    SourceError,
    ImageReadError,
    ImageWriteError,
    ModelFileError,
    OptionError,
    OutputError,
    MissingPackageError,
    ServerError,
)


# What the system refuses: a full disk or a quota, a folder that may not be written, a file where a
# folder is expected.
_SYSTEM_REFUSALS = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES),
        *(errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG),
    }
)


def user_message(error: Exception) -> str:
    """Return the original message: PyTorch wraps errors of data-loader workers in a stack trace."""
    text = str(error)
    return text.rsplit(f"{type(error).__name__}: ", 1)[-1].strip() if "Traceback" in text else text


def _has_no_user_error(record: logging.LogRecord) -> bool:
    """A log filter: detectron2's training loop logs a stack trace of whatever ends it."""
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, USER_ERRORS) or _is_refusal(error))


def _is_refusal(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in _SYSTEM_REFUSALS


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Exit with code 2 and one line on stderr when one of :data:`USER_ERRORS` is raised.

    The same where the system does not let a file be read or written.
    """
    logging.getLogger("detectron2.engine.train_loop").addFilter(_has_no_user_error)
    try:
        yield
    except USER_ERRORS as error:
        sys.exit(report_error(user_message(error)))
    except OSError as error:
        if not _is_refusal(error):
            raise
        file = "A file" if error.filename is None else str(error.filename)
        sys.exit(
            report_error(
                f"{file} cannot be read or written: {error.strerror}. Free some space, change the "
                "permissions, or choose another folder."
            )
        )
    except KeyboardInterrupt:
        sys.exit(130)  # as a shell reports a program that Ctrl-C stopped


def start_logging() -> None:
    """Show log messages of this project and of fvcore, which reports on checkpoints."""
    setup_logger(name="tood")
    setup_logger(name="tood_runtime")
    setup_logger(name="fvcore")


def load_model_config(
    args: argparse.Namespace,
    trained: bool = True,
    opts: Sequence[str] = (),
    exported: bool = False,
) -> CfgNode:
    """Load the config that the shared options of a command describe.

    Later sources override earlier ones: the config of MODEL (or ``--config-file``), the trained
    weights of MODEL, ``--weights`` and the other options that stand for config keys, ``--opts``.
    ``MODEL.WEIGHTS`` may be a published model's name or a run's folder, and becomes their file.

    Args:
        args: parsed by a parser with ``tood_runtime.cli.common.add_model``.
            ``args.config_file`` becomes the path of the file that was read, perhaps a checkpoint or
            an exported model.
        trained: use the trained weights of MODEL; otherwise the config's, from which training
            starts. ``--config-file`` always takes the config's.
        opts: further config options of the command, ``[KEY, VALUE, ...]``; ``--opts`` wins.
        exported: whether the command runs exported models too.

    Returns:
        The config, not frozen.

    Raises:
        ConfigError: there is no such model or config, or an option is wrong; or the weights are an
            exported model, which the command cannot run.
        CheckpointError: MODEL has no trained weights, and the options name none.
        ModelFileError: MODEL is a damaged exported file, or not one of this project.
    """
    model = resolve(args.model if args.config_file is None else args.config_file)
    weights: list[str] = []
    chosen = vars(args).get("weights") is not None or "MODEL.WEIGHTS" in args.opts[::2]
    if model.exported is not None and exported and chosen:
        raise ConfigError(
            f"{model.source} is an exported model, which holds its weights. Leave --weights and "
            "MODEL.WEIGHTS out, or name the config that they belong to."
        )
    if trained and args.config_file is None and not chosen:
        file = model.require_weights()
        weights = [] if file is None else ["MODEL.WEIGHTS", file]
    args.config_file = model.source
    cfg = model.load_config([*weights, *option_pairs(args), *opts, *args.opts])
    cfg.MODEL.WEIGHTS = find_weights(cfg.MODEL.WEIGHTS)
    for file in (model.source, cfg.MODEL.WEIGHTS):
        if is_model_file(file) and not exported:
            raise ConfigError(
                f"{file} is an exported model, which tood detect and tood eval can run. This "
                "command needs the weights that it was exported from."
            )
    return cfg


def split_models(args: argparse.Namespace) -> list[argparse.Namespace]:
    """Split the options of a command that takes several models into those of each model.

    Args:
        args: with ``models``; perhaps ``weights``, one file for each.

    Returns:
        For each model a copy with ``model``, and with its ``weights`` or None.
    """
    models = [None] if args.config_file is not None else args.models
    weights = vars(args).get("weights") or [None] * len(models)
    return [
        argparse.Namespace(**{**vars(args), "model": model, "weights": file})
        for model, file in zip(models, weights, strict=True)
    ]


# The shared options that stand for config keys.
_OPTION_KEYS = {
    "device": "MODEL.DEVICE",
    "weights": "MODEL.WEIGHTS",
    "annotations": "DATASETS.TEST_ANNOTATIONS",
    "images": "DATASETS.TEST_IMAGES",
}


def option_pairs(args: argparse.Namespace) -> list[str]:
    """The config options, ``[KEY, VALUE, ...]``, that stand for a command's shared options."""
    values = vars(args)
    pairs = [
        [key, values[option]]
        for option, key in _OPTION_KEYS.items()
        if isinstance(values.get(option), str)
    ]
    return [word for pair in pairs for word in pair]


def table(rows: Sequence[Sequence[object]], header: Sequence[str], formats: Sequence[str]) -> str:
    """A Markdown table; ``formats`` has one number format per column, as for :func:`format`."""
    return tabulate(rows, header, tablefmt="github", floatfmt=tuple(formats))
