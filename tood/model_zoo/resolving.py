"""Resolve a model name, run folder or config file to its config and weights."""

import os
from dataclasses import dataclass
from pathlib import Path

from detectron2.config import CfgNode

from ..config.files import available_models, find_config_file, named_config, suggest_model
from ..config.loading import load_config
from ..errors import CheckpointError, ConfigError
from .models import MODELS


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
        config_file: its config.
        weights: URL or path of its trained weights. None for a config file, whose weights are its
            ``MODEL.WEIGHTS``, and where there are none.
        missing: why there are none, and what to do; None otherwise.
    """

    config_file: Path
    weights: str | None
    missing: str | None = None

    def require_weights(self) -> str | None:
        """Return ``weights``, or raise a CheckpointError where a trained model has none.

        Without this check, a model would run on its config's ``MODEL.WEIGHTS``, which are those
        that its training starts from.
        """
        if self.missing is not None:
            raise CheckpointError(self.missing)
        return self.weights


def resolve(name_or_path: str | os.PathLike) -> ResolvedModel:
    """Find the config and the trained weights of a model.

    Args:
        name_or_path: a name (see :func:`get_config_file`), the output folder of a training run, or
            a config file. A name comes before a folder of that name; write "./NAME" for the folder.

    Raises:
        ConfigError: no such name, folder or file.
    """
    text = os.fspath(name_or_path)
    if os.path.isfile(text):
        if Path(text).suffix in (".pth", ".pkl"):
            raise ConfigError(
                f"{text} is a checkpoint, not a model. Pass a model name or config file, and "
                f"{text} as the weights (--weights)."
            )
        return ResolvedModel(Path(text), None)
    if named_config(text) is not None:
        try:
            return ResolvedModel(get_config_file(text), get_weights_url(text))
        except ConfigError as error:
            return ResolvedModel(get_config_file(text), None, str(error))
    if os.path.isdir(text):
        return _resolve_run(Path(text))
    return ResolvedModel(find_config_file(text), None)


def _resolve_run(folder: Path) -> ResolvedModel:
    """The config and the newest checkpoint of a training run."""
    config_file = folder / "config.yaml"
    if not config_file.is_file():
        raise ConfigError(
            f"{folder} holds no config.yaml, so it is not the output folder of a training run. "
            f"{available_models()}"
        )
    # After a resumed run was stopped, last_checkpoint is newer than model_final.pth.
    names = ["model_final.pth"]
    record = folder / "last_checkpoint"
    if record.is_file():
        names.insert(0, Path(record.read_text(encoding="utf-8", errors="replace").strip()).name)
    for name in names:
        if name and (folder / name).is_file():
            return ResolvedModel(config_file, str(folder / name))
    missing = (
        f"{folder} holds no checkpoint (model_final.pth, or the file that last_checkpoint names). "
        f"Give the weights, or name {config_file} to use its MODEL.WEIGHTS."
    )
    return ResolvedModel(config_file, None, missing)
