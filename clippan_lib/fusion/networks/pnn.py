"""PNN: three convolutions on upsampled MS and PAN."""

import torch
from torch import nn
from torch.nn import functional as F

from clippan_lib.fusion.networks.lms_network import LmsNetwork
from clippan_lib.shapes import HRMS, PAN, Image


class PNN(LmsNetwork):
    """The network of Masi et al. 2016 [masi2016pansharpening], in A-PNN's residual form.

    The defaults are the network of A-PNN (Scarpa, Vitale and Cozzolino 2018 [scarpa2018target]), which Z-PNN
    (Ciotola et al. 2022 [ciotola2022full]) shares (79,880 parameters for 8 bands). DLPan-Toolbox's is
    `hidden=(64, 32), residual=False` (104,360). Departs from both in: padding by edge pixels and
    upsampling of MS, which they leave to the caller, are inside; upsampling repeats the border, where theirs
    is circular.

    Args:
        bands: number of MS bands, at least 1.
        ratio: PAN-to-MS scale, at least 2.
        hidden: filters of the first two convolutions.
        kernels: the three kernel sizes, odd.
        residual: predict what is missing in the upsampled MS instead of the image.
    Raises: ValueError on an even kernel.
    """

    def __init__(
        self,
        bands: int,
        ratio: int,
        hidden: tuple[int, int] = (48, 32),
        kernels: tuple[int, int, int] = (9, 5, 5),
        residual: bool = True,
    ) -> None:
        super().__init__(ratio)
        if any(kernel % 2 == 0 for kernel in kernels):
            raise ValueError(
                f"kernel sizes {kernels} must be odd: an even one shifts the image by half a pixel"
            )
        self.residual = residual
        self.conv1 = nn.Conv2d(bands + 1, hidden[0], kernels[0])
        self.conv2 = nn.Conv2d(hidden[0], hidden[1], kernels[1])
        self.conv3 = nn.Conv2d(hidden[1], bands, kernels[2])
        self.pixels = sum(kernel // 2 for kernel in kernels)
        self._initialise()

    def _initialise(self) -> None:
        # With torch's own initial weights PNN learned more slowly. Neither saves the filters from a large first
        # step: see the rise of the schedule in training.loop.rate
        for conv in (self.conv1, self.conv2, self.conv3):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)
        if self.residual:
            nn.init.normal_(self.conv3.weight, std=1e-4)

    def fuse(self, lms: Image, pan: PAN) -> HRMS:
        stack = F.pad(torch.cat([lms, pan], dim=1), (self.pixels,) * 4, mode="replicate")
        hrms = self.conv3(F.relu(self.conv2(F.relu(self.conv1(stack), inplace=True)), inplace=True))
        return lms + hrms if self.residual else hrms
