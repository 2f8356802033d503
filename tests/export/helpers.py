"""What tests of exported files share."""

import torch
from torch import nn


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
