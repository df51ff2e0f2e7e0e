"""λ-PNN: a residual network with channel and spatial attention (Ciotola et al. 2023 [ciotola2023unsupervised])."""

import torch
from torch import nn
from torch.nn import functional as F

from clippan_lib.mtf import upsample
from clippan_lib.shapes import HRMS, LRMS, PAN, Maps, check_pair

_FILTERS = 64
_SMALLEST = 4  # the 7×7 convolution mirrors 3 pixels, which must exist beside the edge pixel


def _conv(filters_in: int, filters_out: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(filters_in, filters_out, kernel, padding=kernel // 2, padding_mode="reflect")


class ChannelGate(nn.Module):
    """One weight in (0, 1) per channel, from the channel's mean and maximum over the whole image (CBAM)."""

    def __init__(self, filters: int, reduction: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(filters, filters // reduction)
        self.expand = nn.Linear(filters // reduction, filters)

    def forward(self, maps: Maps) -> Maps:
        pooled = maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))
        weight = sum(self.expand(F.relu(self.squeeze(vector))) for vector in pooled)
        return maps * torch.sigmoid(weight)[:, :, None, None]


class SpatialGate(nn.Module):
    """One weight in (0, 1) per pixel, from the maximum and mean over its channels (CBAM)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = _conv(2, 1, 7)

    def forward(self, maps: Maps) -> Maps:
        pooled = torch.stack([maps.amax(dim=1), maps.mean(dim=1)], dim=1)
        return maps * torch.sigmoid(self.conv(pooled))


class Attention(nn.Module):
    """Channel, then spatial gate, beside the identity (CBAM; Woo et al. 2018 [woo2018cbam])."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.channel = ChannelGate(filters, reduction=4)
        self.spatial = SpatialGate()

    def forward(self, maps: Maps) -> Maps:
        return maps + self.spatial(self.channel(maps))


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with a GELU between them, beside the identity."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.conv1 = _conv(filters, filters, 3)
        self.conv2 = _conv(filters, filters, 3)

    def forward(self, maps: Maps) -> Maps:
        return maps + self.conv2(F.gelu(self.conv1(maps)))


class LambdaPNN(nn.Module):
    """The network of λ-PNN (Ciotola, Poggi and Scarpa 2023 [ciotola2023unsupervised]); 207,150 parameters for 8 bands.

    Its channel attention pools over the whole image, so a pixel depends on the extent of the image given.
    Departs from it in: MS is upsampled inside, with replicated instead of circular border.

    Args:
        bands: number of MS bands, at least 1.
        ratio: PAN-to-MS scale, at least 2.
    """

    upsample = staticmethod(upsample)  # `load_published` may set another

    def __init__(self, bands: int, ratio: int) -> None:
        super().__init__()
        self.ratio = ratio
        self.conv1 = _conv(bands + 1, _FILTERS, 3)
        self.conv2 = _conv(_FILTERS, _FILTERS, 3)
        self.attention1 = Attention(_FILTERS)
        self.block1 = ResidualBlock(_FILTERS)
        self.block2 = ResidualBlock(_FILTERS)
        self.attention2 = Attention(_FILTERS)
        self.conv3 = _conv(_FILTERS, bands, 5)

    def forward(self, lrms: LRMS, pan: PAN) -> HRMS:
        """Fuse a pair.

        Args:
            lrms: (b, c, h, w), [0, 1].
            pan: (b, 1, ratio*h, ratio*w), [0, 1], both sides at least 4.
        Returns: (b, c, ratio*h, ratio*w), not clipped.
        Raises: ValueError if the sizes are not `ratio` apart, or PAN is smaller than 4 pixels.
        """
        check_pair(lrms, pan, self.ratio)
        if min(pan.shape[-2:]) < _SMALLEST:
            raise ValueError(
                f"pan {tuple(pan.shape)} is too small: λ-PNN needs at least {_SMALLEST} pixels a side"
            )
        lms = self.upsample(lrms, self.ratio)
        maps = F.relu(self.conv1(torch.cat([lms, pan], dim=1)))
        maps = self.attention1(F.relu(self.conv2(maps)))
        maps = self.attention2(self.block2(self.block1(maps)))
        return lms + self.conv3(maps)
