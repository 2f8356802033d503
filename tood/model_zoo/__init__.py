"""The published models by name: configs, weights, accuracy and size."""

from .models import MODELS, ModelInfo, ModelSize, PublishedAP
from .resolving import (
    ResolvedModel,
    find_weights,
    get_config,
    get_config_file,
    get_weights_url,
    resolve,
)

__all__ = [
    "MODELS",
    "ModelInfo",
    "ModelSize",
    "PublishedAP",
    "ResolvedModel",
    "find_weights",
    "get_config",
    "get_config_file",
    "get_weights_url",
    "resolve",
]
