"""DCNv2, modulated deformable convolution, on torchvision's operator: runs on CPU and GPU."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d


class ModulatedDeformConv(nn.Module):
    """A modulated deformable convolution that predicts its own offsets and masks.

    The layer that MMDetection calls ``ModulatedDeformConv2dPack``: ``conv_offset`` (3x3, with
    bias) gives 3 * groups * k * k channels, which are read as three equal parts o1, o2, m; the
    offsets are cat(o1, o2) in the order (group, kernel point, (dy, dx)), the masks sigmoid(m).
    ``conv_offset`` starts at 0, so that the first output is half of a plain convolution's.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: side k of the kernel; the padding keeps the size of the map.
        deform_groups: how many groups of input channels share one field of offsets.
        bias: whether the convolution has a bias.
        norm: a normalisation layer that is applied to the output.
        activation: a function that is applied after the normalisation.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        deform_groups: int = 1,
        bias: bool = False,
        norm: nn.Module | None = None,
        activation: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        if in_channels % deform_groups:
            raise ValueError(
                f"{in_channels} input channels do not divide into {deform_groups} deform_groups"
            )
        self.padding = kernel_size // 2
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.conv_offset = nn.Conv2d(
            in_channels,
            3 * deform_groups * kernel_size**2,
            kernel_size,
            padding=self.padding,
        )
        self.norm = norm
        self.activation = activation
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        nn.init.zeros_(self.conv_offset.weight)
        nn.init.zeros_(self.conv_offset.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W) to (N, C_out, H, W)."""
        offset_y, offset_x, mask = self.conv_offset(x).chunk(3, dim=1)
        # The operator has no half-precision kernel everywhere, and float16 cannot hold far
        # positions to a fraction of a cell.
        with torch.autocast(x.device.type, enabled=False):
            out = deform_conv2d(
                x.float(),
                torch.cat((offset_y, offset_x), dim=1).float(),
                self.weight.float(),
                None if self.bias is None else self.bias.float(),
                padding=self.padding,
                mask=mask.float().sigmoid(),
            )
        if self.norm is not None:
            out = self.norm(out)
        return out if self.activation is None else self.activation(out)
