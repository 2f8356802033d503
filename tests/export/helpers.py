"""What tests of exported files share."""

import numpy as np
import torch
from torch import Tensor, nn


def make_confident(model: nn.Module) -> nn.Module:
    """Spread the scores of a model with random weights, from 0.01 to 0.6.

    Images have dozens of detections above 0.3, of all classes.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.head.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.1, generator=generator)
            elif parameter.max() < -2:  # a prior probability of 0.01
                parameter.fill_(-1)
    return model


def batch_of(count: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs of a network with detections: noise, whose first image is padded."""
    images = torch.rand(count, 3, height, width) * 255
    sizes = torch.tensor([[height, width]] * count)
    sizes[0] -= 5
    return images, sizes, sizes * 2


def assert_same_detections(found: dict, expected: tuple[Tensor, ...]) -> None:
    """Outputs of a backend equal those of the network; equal scores may change places."""
    boxes, scores, labels, num_dets = (x.numpy() for x in expected)
    np.testing.assert_array_equal(found["num_dets"], num_dets)
    np.testing.assert_allclose(found["scores"], scores, atol=1e-5)
    differences = np.abs(found["boxes"] - boxes).max(2)
    same = (differences < 1e-2) & (found["labels"] == labels)
    assert same.mean() > 0.97, f"{same.mean():.3f} of the detections are the same"
