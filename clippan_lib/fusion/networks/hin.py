"""Half-instance-normalised residual block (HIN; Chen et al. 2021 [chen2021hinet]), as Pan-Mamba and SHIP use it."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from clippan_lib.shapes import Maps


class HINBlock(nn.Module):
    """Two 3×3 convolutions, instance normalisation of the first half of the channels between them, a skip.

    Two orders are public. With `skip` it is Chen et al.'s: convolution, normalisation, LeakyReLU,
    convolution, LeakyReLU, plus a 1×1 convolution of the input. Without, Pan-Mamba's (and SHIP's encoders'):
    convolution, LeakyReLU, normalisation, convolution, LeakyReLU, plus the input itself. The statistics are
    those of the image given, in evaluation too, so a pixel depends on the extent of the image.

    Args:
        filters_in: channels of the input; without `skip` equal to `filters`.
        filters: channels of the output, even.
        slope: slope of the LeakyReLUs for negative values.
        skip: add a 1×1 convolution of the input, not the input itself.
    """

    def __init__(self, filters_in: int, filters: int, slope: float, skip: bool) -> None:
        super().__init__()
        self.slope = slope
        self.conv1 = nn.Conv2d(filters_in, filters, 3, padding=1)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1)
        self.norm = nn.InstanceNorm2d(filters // 2, affine=True)
        self.identity = nn.Conv2d(filters_in, filters, 1) if skip else None

    def forward(self, maps: Float[Tensor, "b _ H W"]) -> Maps:
        inner = self.conv1(maps)
        if self.identity is None:
            inner = self._normalise(F.leaky_relu(inner, self.slope))
            return maps + F.leaky_relu(self.conv2(inner), self.slope)
        inner = F.leaky_relu(self._normalise(inner), self.slope)
        return self.identity(maps) + F.leaky_relu(self.conv2(inner), self.slope)

    def _normalise(self, maps: Maps) -> Maps:
        first, second = maps.chunk(2, dim=1)
        return torch.cat([self.norm(first), second], dim=1)
