"""ArbRPN: one recurrent network for any number of bands (Chen et al. 2022 [chen2022arbrpn])."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from clippan_lib.fusion.networks.residual import ResidualBlock
from clippan_lib.shapes import HRMS, LRMS, PAN, Maps, check_pair


class Pass(nn.Module):
    """One visit to each band: its features, the hidden state and PAN's features become the next hidden state."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.merge = nn.Conv2d(3 * filters, filters, 1)
        self.blocks = nn.Sequential(*(ResidualBlock(filters) for _ in range(3)))

    def forward(self, bands: Sequence[Maps], hidden: Maps, pan: Maps) -> list[Maps]:
        """The hidden state after each band, in the order of the bands given."""
        # merge(cat([band, hidden, pan])) as a sum: PAN's share serves all bands, and no copies are kept for
        # the gradient
        of_band, of_hidden, of_pan = self.merge.weight.chunk(3, dim=1)
        from_pan = F.conv2d(pan, of_pan, self.merge.bias)
        states = []
        for band in bands:
            hidden = self.blocks(F.conv2d(band, of_band) + F.conv2d(hidden, of_hidden) + from_pan)
            states.append(hidden)
        return states


class ArbRPN(nn.Module):
    """The network of ArbRPN (Chen et al. 2022 [chen2022arbrpn]); 2,341,057 parameters for any number of bands.

    Five cycles visit the bands in order and then in reverse, each way with weights of its own; the hidden state
    starts from PAN and is never reset. Bands share all weights, so a trained network takes images with more or
    fewer bands than it was trained for. A pixel depends on those up to 12*cycles*bands + 2 pixels away: on the
    whole of most patches. MS is upsampled inside by torch's bicubic, as in the public code, which puts
    low-resolution pixel k at ratio*k + (ratio-1)/2, for an even ratio half a pixel before where `mtf.upsample`
    has it. `torch.export` unrolls the loops: the exported network has a fixed number of bands.
    Departs from it in: no mask, so the images of a batch have the same number of bands.

    Args:
        bands: as for every network, but without effect.
        ratio: PAN-to-MS scale, at least 2.
        cycles: visits to all bands in both directions, at least 1.
        filters: feature maps per band.
    """

    def __init__(self, bands: int, ratio: int, cycles: int = 5, filters: int = 64) -> None:
        super().__init__()
        self.ratio = ratio
        self.from_pan = nn.Conv2d(1, filters, 3, padding=1)
        self.from_band = nn.Conv2d(1, filters, 3, padding=1)
        self.onward = nn.ModuleList(Pass(filters) for _ in range(cycles))
        self.back = nn.ModuleList(Pass(filters) for _ in range(cycles))
        self.to_band = nn.Conv2d(filters, 1, 3, padding=1)

    def forward(self, lrms: LRMS, pan: PAN) -> HRMS:
        """Fuse a pair.

        Args:
            lrms: (b, c, h, w), [0, 1], any c, any size.
            pan: (b, 1, ratio*h, ratio*w), [0, 1].
        Returns: (b, c, ratio*h, ratio*w), not clipped.
        Raises: ValueError if the sizes are not `ratio` apart.
        """
        check_pair(lrms, pan, self.ratio)
        lms = F.interpolate(lrms, size=pan.shape[-2:], mode="bicubic", align_corners=False)
        # bands before images, so that the convolutions outside the recurrence take all bands at once
        by_band = lms.transpose(0, 1)
        bands = self.from_band(by_band.flatten(0, 1)[:, None]).chunk(len(by_band))
        hidden = pan_features = self.from_pan(pan)
        for onward, back in zip(self.onward, self.back, strict=True):
            bands = onward(bands, hidden, pan_features)
            bands = back(bands[::-1], bands[-1], pan_features)[::-1]
            hidden = bands[0]
        detail = self.to_band(torch.cat(bands)).view_as(by_band)
        return lms + detail.transpose(0, 1)
