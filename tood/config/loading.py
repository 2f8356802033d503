"""Loading a config."""

import logging
import os
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..errors import ConfigError
from .defaults import add_tood_config
from .device import resolve_device
from .files import find_config_file
from .imports import import_custom
from .merging import merge_content, merge_options
from .yaml_files import parse_config, read_config_layers

logger = logging.getLogger(__name__)


def load_config(
    config_file: str | os.PathLike, opts: Sequence[Any] = (), *, cfg: CfgNode | None = None
) -> CfgNode:
    """Load a config: detectron2's and TOOD's defaults, then a file and its bases, then options.

    Unlike detectron2's ``cfg.merge_from_file``, it reads plain YAML from local files only, so that
    loading a config runs no code except the files that ``MODEL.TOOD.CUSTOM_IMPORTS`` lists.

    Three things happen besides merging. The files in ``MODEL.TOOD.CUSTOM_IMPORTS`` are imported.
    Without a GPU, ``MODEL.DEVICE`` becomes "cpu". ``MODEL.TOOD.CLASS_NAMES`` become the class names
    of the config's datasets that have none in detectron2's MetadataCatalog, where detectron2's
    Visualizer and other programs look for them.

    Args:
        config_file: path of a YAML file, or a name such as "TOOD-R50-1x" or
            "ablations/ATSS-Parallel". ``_BASE_`` in a file may be either too.
        opts: ``[KEY, VALUE, ...]``; text is parsed as on a command line.
        cfg: start from this config instead of the defaults; not changed. Made by ``get_cfg()`` and
            ``add_tood_config``, it can have nodes that your own assigner or criterion reads.

    Returns:
        The config, not frozen.

    Raises:
        ConfigError: a file is missing or not plain YAML, a key is unknown, or a value does not fit.
    """
    if cfg is None:
        cfg = get_cfg()
        add_tood_config(cfg)
    else:
        cfg = cfg.clone()
        cfg.defrost()
    for path, content in read_config_layers(find_config_file(config_file)):
        merge_content(cfg, content, str(path))
    _apply_options(cfg, opts)
    return cfg


def load_config_text(text: str, source: str, opts: Sequence[Any] = ()) -> CfgNode:
    """Load a config that a checkpoint holds as text; see :func:`load_config`.

    Loading weights must run no code, so ``MODEL.TOOD.CUSTOM_IMPORTS`` of the text is refused. Keys
    that this version of detectron2 does not have are ignored, with a warning.

    Args:
        text: what ``cfg.dump()`` returned.
        source: the checkpoint, for messages.
        opts: ``[KEY, VALUE, ...]``; text is parsed as on a command line.

    Returns:
        The config, not frozen.

    Raises:
        ConfigError: the text is not plain YAML, names files, or a value does not fit.
    """
    source = f"the config in {source}"
    cfg = get_cfg()
    add_tood_config(cfg)
    content = parse_config(text, source)
    if "_BASE_" in content:
        raise ConfigError(f"{source} names a _BASE_, which is read from config files only.")
    unknown = _remove_unknown(cfg, content)
    if unknown:
        logger.warning(
            "Ignored keys of %s, which detectron2 has in other versions only: %s.",
            source,
            ", ".join(unknown[:10]),
        )
    merge_content(cfg, content, source)
    imports = list(cfg.MODEL.TOOD.CUSTOM_IMPORTS)
    if imports and "MODEL.TOOD.CUSTOM_IMPORTS" not in opts[::2]:
        raise ConfigError(
            f"MODEL.TOOD.CUSTOM_IMPORTS in {source} is {imports}. Importing what a checkpoint "
            "names could run any code. If you trust it, name the run's config.yaml with "
            "--config-file, and the checkpoint with --weights."
        )
    _apply_options(cfg, opts)
    return cfg


def _apply_options(cfg: CfgNode, opts: Sequence[Any]) -> None:
    """Merge options into a loaded config, and do the rest of what :func:`load_config` does."""
    merge_options(cfg, opts)
    for name in cfg.MODEL.TOOD.CUSTOM_IMPORTS:
        import_custom(name)
    cfg.MODEL.DEVICE = resolve_device(cfg.MODEL.DEVICE)
    _publish_class_names(cfg)


def _remove_unknown(cfg: CfgNode, content: dict[str, Any], parent: str = "") -> list[str]:
    """Remove keys of detectron2 that do not exist; unknown ones of this project stay."""
    removed = []
    for name in list(content):
        key = f"{parent}.{name}" if parent else name
        if name not in cfg:
            if not key.startswith("MODEL.TOOD"):
                del content[name]
                removed.append(key)
        elif isinstance(cfg[name], CfgNode) and isinstance(content[name], dict):
            removed += _remove_unknown(cfg[name], content[name], key)
    return removed


def _publish_class_names(cfg: CfgNode) -> None:
    """Name the classes of datasets in detectron2's catalog; names that are there stay."""
    if not cfg.MODEL.TOOD.CLASS_NAMES:
        return
    # SAHI looks at the training set. One that is registered names its classes when it is loaded,
    # and detectron2 stops if these differ.
    unregistered = [name for name in cfg.DATASETS.TRAIN if name not in DatasetCatalog.list()]
    for dataset in (*cfg.DATASETS.TEST, *unregistered):
        metadata = MetadataCatalog.get(dataset)
        if metadata.get("thing_classes") is None:
            metadata.thing_classes = list(cfg.MODEL.TOOD.CLASS_NAMES)
