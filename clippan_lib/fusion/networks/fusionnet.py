"""FusionNet: a network on the difference of PAN and upsampled MS (Deng et al. 2021 [deng2021detail])."""

from clippan_lib.fusion.networks.lms_network import LmsNetwork
from clippan_lib.fusion.networks.residual import DetailNetwork
from clippan_lib.shapes import HRMS, PAN, Image


class FusionNet(LmsNetwork):
    """The network of Deng, Vivone, Jin and Chanussot 2021 [deng2021detail]; 78,632 parameters for 8 bands.

    A pixel depends on PAN up to 10 pixels away. Departs from DLPan-Toolbox's form in: MS is upsampled
    inside, with replicated instead of circular border.

    Args:
        bands: number of MS bands, at least 1.
        ratio: PAN-to-MS scale, at least 2.
    """

    pixels = DetailNetwork.reach

    def __init__(self, bands: int, ratio: int) -> None:
        super().__init__(ratio)
        self.details = DetailNetwork(bands, bands)

    def fuse(self, lms: Image, pan: PAN) -> HRMS:
        return lms + self.details(pan - lms)
