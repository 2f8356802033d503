"""Finding config files: by path, or by name among the configs of this project."""

import difflib
import functools
import os
import re
from pathlib import Path

from ..errors import ConfigError

# Which configs an error message lists; the paper's ablations are many and only mentioned.
_ABLATIONS = "ablations/"

# Characters of a path in a message.
_MAX_SHOWN = 250


@functools.cache
def config_folder() -> Path:
    """The folder with the configs: ``tood/configs`` in a wheel, ``configs/`` in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "Base-TOOD.yaml").is_file():
            return folder
    raise ConfigError(
        f"The configs of this package are missing from {package / 'configs'}. Reinstall "
        "tood-detectron2."
    )


@functools.cache
def _named_configs() -> dict[str, Path]:
    folder = config_folder()
    files = sorted(folder.rglob("*.yaml"))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}


def config_names() -> list[str]:
    """Names that stand for a config, such as "TOOD-R50-1x" or "ablations/ATSS-Parallel"."""
    return [name for name in _named_configs() if not Path(name).name.startswith("Base-")]


def named_config(name: str) -> Path | None:
    """The file of a config of this project, a base config included; None if there is none.

    Args:
        name: its path below ``configs/`` without ".yaml".
    """
    return _named_configs().get(name)


def find_config_file(name_or_path: str | os.PathLike) -> Path:
    """Find a config file.

    Args:
        name_or_path: path of a YAML file, or the name of a config of this project. A file of that
            name comes first.

    Raises:
        ConfigError: there is no such file or name, or it is a URL.
    """
    text = os.fspath(name_or_path)
    refuse_url(text)
    if os.path.isfile(text):
        return Path(text)
    named = named_config(text)
    if named is not None:
        return named
    if not text:
        raise ConfigError(f"No config is given. {available_models()}")
    raise ConfigError(f"{_problem(text)} {suggest_model(text)}")


def refuse_url(path: str) -> None:
    """Raise a ConfigError for any URL: a config from elsewhere would be trusted unseen."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path):
        raise ConfigError(
            f"Config files are read from local files only, and {path} is a URL. Download it, read "
            "it, and give its path."
        )


def suggest_model(name: str) -> str:
    """A sentence for error messages: the nearest config name, or all of them."""
    names = config_names()
    stem = Path(name).name.removesuffix(".yaml")
    lower = [known.lower() for known in names]
    for candidates in (lower, [Path(known).name for known in lower]):
        for wanted in (name.lower(), stem.lower()):
            near = difflib.get_close_matches(wanted, candidates, n=1, cutoff=0.75)
            if near:
                return f"Did you mean {names[candidates.index(near[0])]}?"
    return available_models()


def available_models() -> str:
    """A sentence for error messages: "Available: TOOD-R50-1x, ..."."""
    names = [name for name in config_names() if not name.startswith(_ABLATIONS)]
    return f"Available: {', '.join(names)}, {_ABLATIONS}*."


def _problem(path: str) -> str:
    if os.path.isdir(path):
        config = os.path.join(path, "config.yaml")
        hint = f" Use {config}." if os.path.isfile(config) else ""
        return f"{path} is a folder, not a config file.{hint}"
    if os.path.exists(path):
        return f"{path} is not a regular file."
    return f"Config file {shortened(path)} does not exist."


def shortened(path: str) -> str:
    """A path as messages show it: its end, if it is longer than any real one."""
    return path if len(path) <= _MAX_SHOWN else f"...{path[-_MAX_SHOWN:]}"
