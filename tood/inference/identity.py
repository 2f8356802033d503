"""What the detections of a model depend on: digests to tell whether two models are the same."""

import hashlib
import json
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import PIL
import torch
from detectron2.config import CfgNode

from tood_runtime.model_files import is_model_file

from ..checkpoint.safe_load import resolve_path
from ..version import __version__

# Where the weights are and where the model runs is not what it detects.
_PLACES = ("WEIGHTS", "DEVICE")


def model_identity(cfg: CfgNode) -> dict[str, str]:
    """Digests of what the detections of a config's model depend on.

    Args:
        cfg: with ``MODEL.WEIGHTS``, which may be an exported file.

    Returns:
        "weights": sha256 of the file, or of both files of OpenVINO; "" where there is none.
        "config": sha256 of what the config says about the model and its input.

    Raises:
        CheckpointError: the weights are missing.
    """
    parts = {name: getattr(cfg, name) for name in ("MODEL", "INPUT")}
    parts["TEST"] = {"DETECTIONS_PER_IMAGE": cfg.TEST.DETECTIONS_PER_IMAGE}
    content = _plain(parts)
    for name in _PLACES:
        content["MODEL"].pop(name, None)
    text = json.dumps(content, sort_keys=True, default=str)
    return {
        "weights": _digest_of_files(cfg.MODEL.WEIGHTS),
        "config": hashlib.sha256(text.encode()).hexdigest(),
    }


def software_versions() -> dict[str, str]:
    """Versions of what decodes images and runs models, by name."""
    found = {"tood": __version__, "torch": torch.__version__, "Pillow": PIL.__version__}
    with suppress(metadata.PackageNotFoundError):
        found["onnxruntime"] = metadata.version("onnxruntime")
    return found


def _digest_of_files(weights: str) -> str:
    if not weights:
        return ""
    # Here, because weights need none of what tood.export imports.
    from ..export.files import file_parts, sha256

    exported = is_model_file(weights)
    paths = file_parts(Path(weights)) if exported else [Path(resolve_path(weights))]
    digests = [sha256(path) for path in paths if path.is_file()]
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


def _plain(node: Any) -> Any:
    """Nested dicts of a config, which share nothing with it."""
    return {key: _plain(value) for key, value in node.items()} if isinstance(node, dict) else node
