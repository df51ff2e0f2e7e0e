"""PanNet: details of MS and PAN, high-pass filtered, added to the upsampled MS (Yang et al. 2017 [yang2017pannet])."""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from clippan_lib.fusion.networks.residual import DetailNetwork
from clippan_lib.fusion.reach import of_lms
from clippan_lib.mtf import upsample
from clippan_lib.shapes import HRMS, LRMS, PAN, Image, check_pair

Border = Literal["reflect", "replicate"]

_BOX = 5
_SMALLEST = _BOX // 2 + 1  # mirroring 2 pixels takes as many beside the edge pixel


def high_pass(image: Image, border: Border) -> Image:
    """An image less its local mean over 5×5 pixels.

    Args:
        image: (b, c, H, W).
        border: what lies outside: "reflect", the image mirrored at the centre of its edge pixels, both sides
            at least 3; "replicate", the edge pixels repeated.
    Returns: (b, c, H, W).
    """
    padded = F.pad(image, (_BOX // 2,) * 4, mode=border)
    return image - F.avg_pool2d(padded, _BOX, stride=1)


class PanNet(nn.Module):
    """The network of Yang et al. 2017 [yang2017pannet]; 83,024 parameters for 8 bands.

    The defaults are DLPan-Toolbox's form. Z-PNN's is `border="replicate", bias=False` (83,016). The high-pass
    filtered MS is brought to PAN size by a learned transposed convolution, whose kernel is centred for
    low-resolution pixel k on ratio*k + (ratio - 1)/2. A pixel depends on PAN up to 12 pixels away.
    Departs from both in: MS is upsampled inside, with replicated instead of circular border; from DLPan's
    also in: the high-pass filter is inside.

    Args:
        bands: number of MS bands, at least 1.
        ratio: PAN-to-MS scale, at least 2.
        border: border of the high-pass filter, see `high_pass`.
        bias: bias of the transposed convolution.
    """

    upsample = staticmethod(upsample)  # `load_published` may set another

    def __init__(self, bands: int, ratio: int, border: Border = "reflect", bias: bool = True) -> None:
        super().__init__()
        self.ratio, self.border = ratio, border
        # 8 and 2 at ratio 4; an odd ratio needs an odd kernel to give ratio times the size
        kernel = 2 * ratio + ratio % 2
        self.deconv = nn.ConvTranspose2d(
            bands, bands, kernel, ratio, padding=(kernel - ratio) // 2, bias=bias
        )
        self.details = DetailNetwork(bands + 1, bands)

    @property
    def reach(self) -> int:
        """LRMS px of apron that a tile needs."""
        lifted = (self.details.reach + (3 * self.ratio - 1) // 2) // self.ratio
        return max(of_lms(self.ratio), lifted + _BOX // 2)

    def forward(self, lrms: LRMS, pan: PAN) -> HRMS:
        """Fuse a pair.

        Args:
            lrms: (b, c, h, w), [0, 1], both sides at least 3 if the border is mirrored.
            pan: (b, 1, ratio*h, ratio*w), [0, 1].
        Returns: (b, c, ratio*h, ratio*w), not clipped.
        Raises: ValueError if the sizes are not `ratio` apart, or LRMS is too small to be mirrored.
        """
        check_pair(lrms, pan, self.ratio)
        if self.border == "reflect" and min(lrms.shape[-2:]) < _SMALLEST:
            raise ValueError(
                f"lrms {tuple(lrms.shape)} is too small: PanNet needs at least {_SMALLEST} pixels a side"
            )
        lms = self.upsample(lrms, self.ratio)
        lifted = self.deconv(high_pass(lrms, self.border))
        return lms + self.details(torch.cat([lifted, high_pass(pan, self.border)], dim=1))
