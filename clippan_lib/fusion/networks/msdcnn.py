"""MSDCNN: a deep branch with several kernel sizes and a shallow one, summed (Yuan et al. 2018 [yuan2018multiscale])."""

import torch
from torch import nn
from torch.nn import functional as F

from clippan_lib.fusion.networks.lms_network import LmsNetwork
from clippan_lib.shapes import HRMS, PAN, Image, Maps


def _conv(filters_in: int, filters_out: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(filters_in, filters_out, kernel, padding=kernel // 2)


class MultiScaleConv(nn.Module):
    """A third of the filters each with 3×3, 5×5 and 7×7 pixels, beside the identity; then a ReLU."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.conv1 = _conv(filters, filters // 3, 3)
        self.conv2 = _conv(filters, filters // 3, 5)
        self.conv3 = _conv(filters, filters // 3, 7)

    def forward(self, maps: Maps) -> Maps:
        scales = [conv(maps) for conv in (self.conv1, self.conv2, self.conv3)]
        return F.relu(maps + torch.cat(scales, dim=1))


class MSDCNN(LmsNetwork):
    """The network of Yuan et al. 2018 [yuan2018multiscale]; 228,556 parameters for 8 bands.

    It predicts the image itself, not what is missing in the upsampled MS, and ends in a ReLU: no value is
    negative. A pixel depends on PAN up to 12 pixels away. Departs from DLPan-Toolbox's form in: MS is
    upsampled inside, with replicated instead of circular border; untrained, it gives about 0.5.

    Args:
        bands: number of MS bands, at least 1.
        ratio: PAN-to-MS scale, at least 2.
    """

    pixels = 12

    def __init__(self, bands: int, ratio: int) -> None:
        super().__init__(ratio)
        self.conv1 = _conv(bands + 1, 60, 7)
        self.conv2 = MultiScaleConv(60)
        self.conv3 = _conv(60, 30, 3)
        self.conv4 = MultiScaleConv(30)
        self.conv5 = _conv(30, bands, 5)
        self.shallow1 = _conv(bands + 1, 64, 9)
        self.shallow2 = _conv(64, 32, 1)
        self.shallow3 = _conv(32, bands, 5)
        # With torch's own bias one band in eight began below zero everywhere, where the last ReLU passes no
        # gradient; a network of one band would then never learn
        nn.init.constant_(self.shallow3.bias, 0.5)

    def fuse(self, lms: Image, pan: PAN) -> HRMS:
        stack = torch.cat([lms, pan], dim=1)
        deep = self.conv2(F.relu(self.conv1(stack)))
        deep = self.conv5(self.conv4(F.relu(self.conv3(deep))))
        shallow = self.shallow3(F.relu(self.shallow2(F.relu(self.shallow1(stack)))))
        return F.relu(deep + shallow)
