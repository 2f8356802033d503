"""1x1 convolution with one kernel per image."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..tracing import is_tracing


def dynamic_conv1x1(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve each image of a batch with its own 1x1 kernel (dynamic convolution).

    Args:
        x: (N, C, H, W).
        weight: (N, C', C).

    Returns:
        (N, C', H, W).
    """
    # On a CPU PyTorch's convolution is faster than its matrix product, but the loop would write the
    # number of images into a traced graph.
    if x.device.type == "cpu" and not is_tracing():
        return torch.cat(
            [
                F.conv2d(image[None], kernel[:, :, None, None])
                for image, kernel in zip(x, weight, strict=True)
            ]
        )
    return weight.bmm(x.flatten(2)).reshape(x.shape[0], weight.shape[1], *x.shape[2:])
