"""EXP: interpolation alone, what every other method starts from and must beat."""

from clippan_lib.fusion.classical.stages import Stages, staged
from clippan_lib.fusion.reach import of_lms
from clippan_lib.mtf import Border, upsample
from clippan_lib.shapes import LRMS, PAN, check_pair


@staged(of_lms)
def exp(lrms: LRMS, pan: PAN, ratio: int, border: Border = "replicate") -> Stages:
    """EXP: the LRMS interpolated to the size of PAN (Aiazzi et al. 2002 [aiazzi2002context]); PAN is not used.

    Args:
        lrms: (b, c, h, w), any linear unit.
        pan: (b, 1, ratio*h, ratio*w).
        ratio: PAN-to-MS scale, at least 2.
        border: how EXP extends the image at its border, as in `mtf.upsample`.
    Returns: (b, c, ratio*h, ratio*w), in the unit of `lrms`.
    Raises: ValueError if the pair does not fit `ratio`.
    """
    check_pair(lrms, pan, ratio)
    yield from ()
    return upsample(lrms, ratio, border)
