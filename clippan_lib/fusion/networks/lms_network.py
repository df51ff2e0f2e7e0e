"""What the networks share that work on upsampled MS and PAN alone."""

from abc import ABC, abstractmethod

from torch import nn

from clippan_lib.fusion.reach import of_lms
from clippan_lib.mtf import upsample
from clippan_lib.shapes import HRMS, LRMS, PAN, Image, check_pair


class LmsNetwork(nn.Module, ABC):
    """A network that sees LRMS only as it is upsampled: `fuse` is the network, `forward` upsamples before it.

    Args:
        ratio: PAN-to-MS scale, at least 2.
    """

    upsample = staticmethod(upsample)  # `load_published` may set another
    pixels: int  # how far `fuse` looks, PAN px

    def __init__(self, ratio: int) -> None:
        super().__init__()
        self.ratio = ratio

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
        return self.fuse(self.upsample(lrms, self.ratio), pan)

    @abstractmethod
    def fuse(self, lms: Image, pan: PAN) -> HRMS:
        """The same from LRMS that is upsampled already, (b, c, ratio*h, ratio*w)."""
