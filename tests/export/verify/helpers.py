"""Hand-made inputs of a verification."""

import dataclasses

import numpy as np
import torch
from torch import nn

from tood.export.verify.matching import Detected
from tood_runtime.model_info import ModelInfo


def detected(*rows: tuple[list[float], float, int]) -> Detected:
    """Detections from rows (box, score, class)."""
    boxes, scores, classes = zip(*rows, strict=True) if rows else ((), (), ())
    return Detected(
        np.array(boxes, float).reshape(-1, 4), np.array(scores, float), np.array(classes, int)
    )


_OUTPUTS: dict[tuple, dict[str, np.ndarray]] = {}


class NetworkBackend:
    """Runs an exported network in PyTorch, before any export.

    The weights of all networks are the same, so each batch is run once for all tests.

    Args:
        network: to run.
        info: what its file would say.
        change: replaces outputs in the dict that it is given.
    """

    def __init__(self, network: nn.Module, info: ModelInfo, change=None) -> None:
        self.network, self.info, self.change = network, info, change
        self.name = "PyTorch"
        self.calls: list[tuple[np.ndarray, ...]] = []

    def run(self, images, image_sizes, original_sizes):
        self.calls.append((images, image_sizes, original_sizes))
        arrays = (images, image_sizes, original_sizes)[: len(self.network.input_names)]
        key = type(self.network), self.network.dtype, *(array.tobytes() for array in arrays)
        if key not in _OUTPUTS:
            with torch.no_grad():
                outputs = self.network(*(torch.from_numpy(array) for array in arrays))
            names = self.network.output_names
            _OUTPUTS[key] = {
                name: output.numpy() for name, output in zip(names, outputs, strict=True)
            }
        named = dict(_OUTPUTS[key])
        if self.change is not None:
            self.change(named)
        return named


def with_info(backend: NetworkBackend, **changes) -> NetworkBackend:
    """The same backend with other metadata."""
    info = dataclasses.replace(backend.info, **changes)
    return NetworkBackend(backend.network, info, backend.change)
