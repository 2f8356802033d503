"""A backend that needs no file."""

import torch

from tood_runtime.backends.base import validate_inputs


class NetworkBackend:
    """What a file holds, run by PyTorch; with the checks of the real backends."""

    name = "PyTorch"

    def __init__(self, network, info) -> None:
        self.network, self.info = network, info
        self.batches: list[tuple[int, ...]] = []

    def run(self, images, image_sizes, original_sizes):
        validate_inputs(self.info, images, image_sizes, original_sizes)
        self.batches.append(images.shape)
        inputs = [torch.from_numpy(x) for x in (images, image_sizes, original_sizes)]
        with torch.no_grad():
            outputs = self.network(*inputs[: len(self.network.input_names)])
        names = self.network.output_names
        return {name: x.numpy() for name, x in zip(names, outputs, strict=True)}
