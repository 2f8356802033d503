"""Loading a config."""

import os
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from .defaults import add_tood_config
from .device import resolve_device
from .files import find_config_file
from .imports import import_custom
from .merging import merge_content, merge_options
from .yaml_files import read_config_layers


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
    merge_options(cfg, opts)
    for name in cfg.MODEL.TOOD.CUSTOM_IMPORTS:
        import_custom(name)
    cfg.MODEL.DEVICE = resolve_device(cfg.MODEL.DEVICE)
    _publish_class_names(cfg)
    return cfg


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
