"""The residual block that four networks share, and the residual network that PanNet and FusionNet do."""

from torch import nn
from torch.nn import functional as F

from clippan_lib.shapes import Image, Maps

_FILTERS = 32
_BLOCKS = 4


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with a ReLU between them, beside the identity."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(filters, filters, 3, padding=1)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1)

    def forward(self, maps: Maps) -> Maps:
        return maps + self.conv2(F.relu(self.conv1(maps)))


class DetailNetwork(nn.Module):
    """The details that are missing in the upsampled MS, from images that hold them.

    A 3×3 convolution with ReLU, four residual blocks and a 3×3 convolution; all pad with zeros.

    Args:
        channels: channels of the input.
        bands: bands of the details.
    """

    reach = 2 * _BLOCKS + 2  # pixels

    def __init__(self, channels: int, bands: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, _FILTERS, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(_FILTERS) for _ in range(_BLOCKS)))
        self.conv2 = nn.Conv2d(_FILTERS, bands, 3, padding=1)

    def forward(self, stack: Maps) -> Image:
        return self.conv2(self.blocks(F.relu(self.conv1(stack))))
