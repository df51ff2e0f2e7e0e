"""Multiresolution analysis: each band gets the details that PAN has above the band's own resolution."""

from collections.abc import Sequence

import torch

from clippan_lib.fusion.classical.statistics import mean, slope
from clippan_lib.mtf import degrade, upsample
from clippan_lib.shapes import HRMS, LRMS, PAN, check_pair


def mtf_glp_hpm_r(lrms: LRMS, pan: PAN, ratio: int, gnyq: Sequence[float]) -> HRMS:
    """MTF-GLP-HPM-R: each band modulated by PAN over its low-pass, PAN matched to the band by regression.

    Vivone, Restaino & Chanussot 2018, divided through by the gain, so that a gain of 0
    leaves the band as it is.

    Args:
        lrms: (b, c, h, w), any linear unit.
        pan: (b, 1, ratio*h, ratio*w), the same unit.
        ratio: PAN-to-MS scale, at least 2.
        gnyq: MTF gain at Nyquist, one per band, in (0, 1).
    Returns: (b, c, ratio*h, ratio*w), in the unit of `lrms`, not clipped.
    Raises: ValueError if the pair does not fit `ratio`.
    """
    check_pair(lrms, pan, ratio)
    lms = upsample(lrms, ratio)
    pan_low = upsample(degrade(pan.expand(-1, lrms.shape[1], -1, -1), gnyq, ratio), ratio)
    gain = slope(lms, pan_low)
    matched_low = gain * (pan_low - mean(pan)) + mean(lms)
    return lms * (1 + gain * (pan - pan_low) / matched_low.masked_fill(matched_low == 0, torch.inf))
