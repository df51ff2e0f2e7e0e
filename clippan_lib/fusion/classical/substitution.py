"""Component substitution: one component of the bands, a combination of them, is replaced by PAN."""

import torch

from clippan_lib.fusion.classical.least_squares import blocks, least_squares
from clippan_lib.fusion.classical.lowpass import wavelet_lowpass
from clippan_lib.fusion.classical.statistics import centred, slope
from clippan_lib.mtf import separable, upsample
from clippan_lib.shapes import HRMS, LRMS, PAN, check_pair


def gsa(lrms: LRMS, pan: PAN, ratio: int) -> HRMS:
    """GSA: Gram-Schmidt with the intensity fitted to PAN at low resolution (Aiazzi, Baronti & Selva 2007).

    Args:
        lrms: (b, c, h, w), any linear unit.
        pan: (b, 1, ratio*h, ratio*w), the same unit.
        ratio: PAN-to-MS scale, at least 2.
    Returns: (b, c, ratio*h, ratio*w), in the unit of `lrms`, not clipped.
    Raises: ValueError if the pair does not fit `ratio`.
    """
    check_pair(lrms, pan, ratio)
    lms = upsample(lrms, ratio)
    lms0, lrms0, pan0 = centred(lms), centred(lrms), centred(pan)
    pan_lr = separable(pan0, *(wavelet_lowpass(side, ratio) for side in pan.shape[-2:]))
    bands = torch.cat([lrms0, torch.ones_like(lrms0[:, :1])], 1)
    weights = least_squares(blocks(bands, 1, 1), blocks(pan_lr, 1, 1))[:, 0, 0, :-1, :, None]
    intensity = (weights.to(lms) * lms0).sum(1, keepdim=True)
    return lms + slope(lms, intensity) * (pan0 - intensity)
