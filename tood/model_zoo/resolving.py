"""Resolve a model name, run folder, config, checkpoint or exported file to config and weights."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from tood_runtime.model_files import is_model_file, read_model_info
from tood_runtime.model_info import ModelInfo as ExportedInfo

from ..checkpoint.info import CheckpointInfo, read_info
from ..checkpoint.resuming import BEST_CHECKPOINT, read_last_checkpoint, read_run_id
from ..checkpoint.safe_load import peek_file
from ..config.files import available_models, find_config_file, named_config, suggest_model
from ..config.loading import load_config, load_config_text
from ..errors import CheckpointError, ConfigError
from .models import MODELS

logger = logging.getLogger(__name__)

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".pkl", ".pyth", ".safetensors")


def get_config_file(name: str) -> Path:
    """Get the file of a config of this project.

    Args:
        name: such as "TOOD-R50-1x", "ablations/ATSS-Parallel" or "quickstart/TOOD-R18-shapes".

    Raises:
        ConfigError: there is no such config.
    """
    path = named_config(name)
    if path is None:
        raise ConfigError(f"Unknown model {name!r}. {suggest_model(name)}")
    return path


def get_config(name: str) -> CfgNode:
    """Load a config of this project; see :func:`tood.config.load_config`.

    Args:
        name: see :func:`get_config_file`.

    Raises:
        ConfigError: there is no such config.
    """
    return load_config(get_config_file(name))


def get_weights_url(name: str) -> str:
    """Get the URL of the published weights, which ``MODEL.WEIGHTS`` takes as it is.

    Args:
        name: of a published model, see :data:`MODELS`.

    Raises:
        ConfigError: there is no such model, or its weights cannot be downloaded by a program.
    """
    info = next((info for info in MODELS if info.name == name), None)
    if info is not None and info.weights_url is not None:
        return info.weights_url
    path = get_config_file(name)
    if info is not None:
        raise ConfigError(
            f"The weights of {name} must be downloaded by hand: {info.authors_drive}. Then pass "
            "the file with --weights."
        )
    available = ", ".join(info.name for info in MODELS if info.weights_url)
    raise ConfigError(f"No weights are published for {path.stem}. Available: {available}.")


@dataclass(frozen=True)
class ResolvedModel:
    """The config and weights that a model argument refers to.

    Attributes:
        config_file: its config; None for a checkpoint or an exported file, which hold theirs.
        weights: URL or path of its trained weights, or of the exported file. None for a config
            file, whose weights are its ``MODEL.WEIGHTS``, and where there are none.
        missing: why there are none, and what to do; None otherwise.
        info: what the checkpoint, or that of a run, says about itself; None if nothing.
        exported: what an exported file says about its model; None otherwise.
        choice: which checkpoint of a run the weights are, for the log.
    """

    config_file: Path | None
    weights: str | None
    missing: str | None = None
    info: CheckpointInfo | None = None
    exported: ExportedInfo | None = None
    choice: str = ""

    @property
    def source(self) -> str:
        """Where the config comes from: its file, the checkpoint, or the exported file."""
        return str(self.weights if self.config_file is None else self.config_file)

    def load_config(self, opts: Sequence[Any] = ()) -> CfgNode:
        """Load the config; ``MODEL.WEIGHTS`` of a checkpoint or an exported file is that file.

        Class names and category ids that the config does not have are those of the checkpoint.

        Args:
            opts: ``[KEY, VALUE, ...]``; see :func:`tood.config.load_config`.

        Returns:
            The config, not frozen.

        Raises:
            ConfigError: the config is invalid, or an option is wrong.
        """
        if self.config_file is not None:
            cfg = load_config(self.config_file, opts)
        elif self.exported is not None:
            assert self.weights is not None
            return _load_exported_config(self.exported, self.weights, opts)
        else:
            assert self.weights is not None and self.info is not None
            cfg = load_config_text(
                self.info.config, self.weights, ["MODEL.WEIGHTS", self.weights, *opts]
            )
        if self.info is not None:
            _fill_in_classes(cfg.MODEL.TOOD, self.info)
        return cfg

    def require_weights(self) -> str | None:
        """Return ``weights``, or raise a CheckpointError where a trained model has none.

        Which of a run's checkpoints they are is logged. Without this check, a model would run on
        its config's ``MODEL.WEIGHTS``, which are those that its training starts from.
        """
        if self.missing is not None:
            raise CheckpointError(self.missing)
        if self.choice:
            logger.info("%s", self.choice)
        return self.weights


def resolve(name_or_path: str | os.PathLike) -> ResolvedModel:
    """Find the config and the trained weights of a model.

    Args:
        name_or_path: a name (see :func:`get_config_file`), the output folder of a training run, a
            config file, a checkpoint that a training of this project wrote, or an exported file
            (.onnx, .xml, .torchscript, .pt2). A name comes before a folder of that name; write
            "./NAME" for the folder. Of a folder, the weights are the first of these that the run
            has: ``model_best.pth``, which hooks write after evaluations; the file that
            ``last_checkpoint`` names; ``model_final.pth``. Name a file to use another one.

    Raises:
        ConfigError: no such name, folder or file; or a checkpoint that does not hold its config.
        CheckpointError: the checkpoint is damaged.
        ModelFileError: an exported file is missing or damaged, or is not one of this project.
    """
    text = os.fspath(name_or_path)
    if is_model_file(text):
        return ResolvedModel(None, text, exported=read_model_info(text))
    if os.path.isfile(text):
        if is_checkpoint(text):
            return _resolve_checkpoint(text)
        return ResolvedModel(Path(text), None)
    if named_config(text) is not None:
        try:
            return ResolvedModel(get_config_file(text), get_weights_url(text))
        except ConfigError as error:
            return ResolvedModel(get_config_file(text), None, str(error))
    if os.path.isdir(text):
        return _resolve_run(Path(text))
    if Path(text).suffix in CHECKPOINT_SUFFIXES and "://" not in text:
        raise CheckpointError(f"The file {text} does not exist. Check the path.")
    return ResolvedModel(find_config_file(text), None)


def find_weights(source: str | os.PathLike[str]) -> str:
    """Find the weights that a value of ``MODEL.WEIGHTS`` or ``--weights`` refers to.

    Args:
        source: the name of a published model, or the output folder of a training run, whose best
            or last checkpoint is taken (see :func:`resolve`). A file, also one of such a name, a
            URL and "" are returned as they are.

    Raises:
        ConfigError: a folder that is not that of a training run.
        CheckpointError: no weights of the model are published, or the run has no checkpoint.
    """
    text = os.fspath(source)
    if os.path.isfile(text) or (named_config(text) is None and not os.path.isdir(text)):
        return text
    weights = resolve(text).require_weights()
    assert weights is not None  # of a name or a folder
    return weights


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a checkpoint, by its name or its first bytes: a zip file or a pickle.

    Args:
        path: of an existing file.
    """
    if Path(path).suffix in CHECKPOINT_SUFFIXES:
        return True
    with open(path, "rb") as file:
        return file.read(4).startswith((b"PK\x03\x04", b"\x80"))


def _resolve_checkpoint(path: str) -> ResolvedModel:
    info = read_info(peek_file(path), path)
    if info is None or not info.config:
        raise ConfigError(
            f"{path} is a checkpoint that does not hold its config. Pass a model name or a config "
            f"file (--config-file), and {path} as the weights (--weights)."
        )
    return ResolvedModel(None, path, None, info)


def _load_exported_config(info: ExportedInfo, path: str, opts: Sequence[Any]) -> CfgNode:
    """The config that a file was exported from, with the values that are fixed in the file.

    Nothing is built from it, so it imports nothing, and the model runs on the CPU unless ``opts``
    name another device.
    """
    fixed = {
        "MODEL.TOOD.CUSTOM_IMPORTS": [],
        "MODEL.DEVICE": "cpu",
        "MODEL.WEIGHTS": path,
        "INPUT.FORMAT": info.channel_order,
        "INPUT.APPLY_EXIF_ORIENTATION": info.apply_exif_orientation,
        "INPUT.MIN_SIZE_TEST": info.min_size,
        "INPUT.MAX_SIZE_TEST": info.max_size,
        "MODEL.TOOD.NUM_CLASSES": len(info.class_names),
        "MODEL.TOOD.SCORE_THRESH_TEST": info.score_threshold,
        "MODEL.TOOD.NMS_THRESH_TEST": info.nms_threshold,
        "MODEL.TOOD.TOPK_CANDIDATES_TEST": info.topk_candidates,
        "TEST.DETECTIONS_PER_IMAGE": info.max_detections,
    }
    pairs = [word for pair in fixed.items() for word in pair]
    return load_config_text(info.config, path, [*pairs, *opts])


def _fill_in_classes(node: CfgNode, info: CheckpointInfo) -> None:
    for key, values in (("CLASS_NAMES", info.class_names), ("CATEGORY_IDS", info.category_ids)):
        if not node[key] and len(values) == node.NUM_CLASSES:
            node[key] = list(values)


def _resolve_run(folder: Path) -> ResolvedModel:
    """The config of a training run and its best checkpoint, else its last."""
    config_file = folder / "config.yaml"
    if not config_file.is_file():
        raise ConfigError(
            f"{folder} holds no config.yaml, so it is not the output folder of a training run. "
            f"{available_models()}"
        )
    named = read_last_checkpoint(folder)
    # After a resumed run was stopped, last_checkpoint is newer than model_final.pth.
    last = [] if named in (None, folder) else [named]
    for path in [folder / BEST_CHECKPOINT, *last, folder / "model_final.pth"]:
        info = _read_info(path) if path.is_file() else None
        if not path.is_file() or _is_of_another_run(info, folder):
            continue
        kind = "best" if path.name == BEST_CHECKPOINT else "last"
        iteration = None if info is None else info.iteration
        at = "" if iteration is None else f", iteration {iteration}"
        choice = f"Using {path}, the {kind} checkpoint of the run{at}."
        return ResolvedModel(config_file, str(path), info=info, choice=choice)
    missing = (
        f"{folder} holds no checkpoint of its run ({BEST_CHECKPOINT}, the file that "
        f"last_checkpoint names, or model_final.pth). Give the weights, or name {config_file} to "
        "use its MODEL.WEIGHTS."
    )
    return ResolvedModel(config_file, None, missing)


def _read_info(path: Path) -> CheckpointInfo | None:
    try:
        return read_info(peek_file(str(path)), str(path))
    except CheckpointError:
        return None  # whoever loads it says what is wrong


def _is_of_another_run(info: CheckpointInfo | None, folder: Path) -> bool:
    """Whether an earlier run in the folder has left a checkpoint; config.yaml is not its."""
    run_id = read_run_id(folder)
    return bool(run_id and info is not None and info.run_id and info.run_id != run_id)
