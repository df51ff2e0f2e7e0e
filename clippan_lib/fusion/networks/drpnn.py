"""DRPNN: ten convolutions beside the identity, and one after them (Wei et al. 2017 [wei2017boosting])."""

import torch
from torch import nn
from torch.nn import functional as F

from clippan_lib.fusion.networks.lms_network import LmsNetwork
from clippan_lib.shapes import HRMS, PAN, Image

_FILTERS = 32
_HIDDEN = 8


def _conv(filters_in: int, filters_out: int) -> nn.Conv2d:
    return nn.Conv2d(filters_in, filters_out, 7, padding=3)


class DRPNN(LmsNetwork):
    """The network of Wei et al. 2017 [wei2017boosting], as in DLPan-Toolbox; 433,465 parameters for 8 bands.

    The skip adds MS and PAN together, before the last convolution, and no ReLU follows it (Z-PNN's form has
    one, 64 filters, and a last kernel of 3×3). A pixel depends on PAN up to 33 pixels away. Departs from
    DLPan-Toolbox's form in: MS is upsampled inside, with replicated instead of circular border.

    Args:
        bands: number of MS bands, at least 1.
        ratio: PAN-to-MS scale, at least 2.
    """

    pixels = 33

    def __init__(self, bands: int, ratio: int) -> None:
        super().__init__(ratio)
        self.conv1 = _conv(bands + 1, _FILTERS)
        self.hidden = nn.ModuleList(_conv(_FILTERS, _FILTERS) for _ in range(_HIDDEN))
        self.conv2 = _conv(_FILTERS, bands + 1)
        self.conv3 = _conv(bands + 1, bands)

    def fuse(self, lms: Image, pan: PAN) -> HRMS:
        stack = torch.cat([lms, pan], dim=1)
        maps = F.relu(self.conv1(stack))
        for conv in self.hidden:
            maps = F.relu(conv(maps))
        return self.conv3(stack + self.conv2(maps))
