"""FusionNet: a network on the difference of PAN and upsampled MS (Deng et al. 2021 [deng2021detail])."""

from torch import nn

from clippan_lib.fusion.networks.residual import DetailNetwork
from clippan_lib.fusion.reach import of_lms
from clippan_lib.mtf import upsample
from clippan_lib.shapes import HRMS, LRMS, PAN, Image, check_pair


class FusionNet(nn.Module):
    """The network of Deng, Vivone, Jin and Chanussot 2021 [deng2021detail]; 78,632 parameters for 8 bands.

    A pixel depends on PAN up to 10 pixels away. Departs from DLPan-Toolbox's form in: MS is upsampled
    inside, with replicated instead of circular border.

    Args:
        bands: number of MS bands, at least 1.
        ratio: PAN-to-MS scale, at least 2.
    """

    def __init__(self, bands: int, ratio: int) -> None:
        super().__init__()
        self.ratio = ratio
        self.details = DetailNetwork(bands, bands)

    @property
    def pixels(self) -> int:
        """How far `fuse` looks, PAN px."""
        return self.details.reach

    @property
    def reach(self) -> int:
        """LRMS px of apron that a tile needs."""
        return of_lms(self.ratio, self.pixels)

    def forward(self, lrms: LRMS, pan: PAN) -> HRMS:
        """Fuse a pair.

        Args:
            lrms: (b, c, h, w), [0, 1], any size.
            pan: (b, 1, ratio*h, ratio*w), [0, 1].
        Returns: (b, c, ratio*h, ratio*w), not clipped.
        Raises: ValueError if the sizes are not `ratio` apart.
        """
        check_pair(lrms, pan, self.ratio)
        return self.fuse(upsample(lrms, self.ratio, border="replicate"), pan)

    def fuse(self, lms: Image, pan: PAN) -> HRMS:
        """The same from LRMS that is upsampled already, (b, c, ratio*h, ratio*w)."""
        return lms + self.details(pan - lms)
