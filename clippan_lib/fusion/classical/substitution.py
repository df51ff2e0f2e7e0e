"""Component substitution: one component of the bands, a combination of them, is replaced by PAN."""

import torch
from jaxtyping import Float
from torch import Tensor

from clippan_lib.fusion.classical.least_squares import blocks, least_squares
from clippan_lib.fusion.classical.lowpass import wavelet_lowpass
from clippan_lib.fusion.classical.statistics import (
    PerBand,
    centred,
    correlation,
    deviation,
    mean,
    percentile,
    quotient,
    slope,
)
from clippan_lib.mtf import filter_image, imresize, lowpass_kernel, separable, upsample
from clippan_lib.shapes import HRMS, LRMS, PAN, Image, check_pair

# shares of the first percentile of blue, green, red and near infrared that are haze
_HAZE_SHARES = (0.95, 0.45, 0.40, 0.05)


def _detail(pan: PAN, pan_low: PAN, intensity: PAN) -> PAN:
    """PAN, given mean and deviation of the intensity, less the intensity; 0 where either is constant."""
    gain = quotient(deviation(intensity), deviation(pan_low))
    matched = gain * (pan - mean(pan_low)) + mean(intensity)
    return (matched - intensity).masked_fill(gain == 0, 0.0)


def gihs(lrms: LRMS, pan: PAN, ratio: int) -> HRMS:
    """GIHS: every band gets PAN less the mean of the bands (generalised IHS, Tu et al. 2001).

    PAN is first given the mean and the deviation of that intensity, as in the toolbox.

    Args:
        lrms: (b, c, h, w), any linear unit.
        pan: (b, 1, ratio*h, ratio*w), any linear unit.
        ratio: PAN-to-MS scale, at least 2.
    Returns: (b, c, ratio*h, ratio*w), in the unit of `lrms`, not clipped.
    Raises: ValueError if the pair does not fit `ratio`.
    """
    check_pair(lrms, pan, ratio)
    lms = upsample(lrms, ratio)
    return lms + _detail(pan, pan, lms.mean(1, keepdim=True))


def brovey(lrms: LRMS, pan: PAN, ratio: int) -> HRMS:
    """Brovey: every band modulated by PAN over the mean of the bands (Gillespie, Kahle & Walker 1987).

    PAN is first given the mean and the deviation of that intensity, as in the toolbox.

    Args:
        lrms: (b, c, h, w), any linear unit that is 0 where there is no light.
        pan: (b, 1, ratio*h, ratio*w), any linear unit.
        ratio: PAN-to-MS scale, at least 2.
    Returns: (b, c, ratio*h, ratio*w), in the unit of `lrms`, not clipped.
    Raises: ValueError if the pair does not fit `ratio`.
    """
    check_pair(lrms, pan, ratio)
    lms = upsample(lrms, ratio)
    intensity = lms.mean(1, keepdim=True)
    return lms * (1 + quotient(_detail(pan, pan, intensity), intensity))


def _haze(lms: Image) -> PerBand:
    if lms.shape[1] != len(_HAZE_SHARES):
        return lms.amin((-2, -1), keepdim=True)
    return percentile(lms, 1.0) * lms.new_tensor(_HAZE_SHARES)[:, None, None]


def bt_h(lrms: LRMS, pan: PAN, ratio: int) -> HRMS:
    """BT-H: Brovey above the haze, the intensity fitted to the low-passed PAN (Lolli et al. 2017).

    As in the toolbox, the haze is the least value of each band; but four bands are taken for blue, green, red
    and near infrared, whose haze is a share of the first percentile, and values under it are raised to it.

    Args:
        lrms: (b, c, h, w), any linear unit that is 0 where there is no light.
        pan: (b, 1, ratio*h, ratio*w), likewise.
        ratio: PAN-to-MS scale, at least 2.
    Returns: (b, c, ratio*h, ratio*w), in the unit of `lrms`, not clipped.
    Raises: ValueError if the pair does not fit `ratio`.
    """
    check_pair(lrms, pan, ratio)
    lms = upsample(lrms, ratio)
    pan_low = filter_image(pan, lowpass_kernel(ratio))
    weights = least_squares(blocks(lms, 1, 1), blocks(pan_low, 1, 1))[:, 0, 0, :, :, None]
    haze = _haze(lms)
    # centred: a constant band brings its value, not its rounding, which would be all that stands above its haze
    intensity = (weights.to(lms) * (centred(lms) + mean(lms) - haze)).sum(1, keepdim=True)
    gain = quotient(_detail(pan, pan_low, intensity), intensity)
    return torch.maximum(lms, haze) + (lms - haze).clamp(min=0) * gain


def gs(lrms: LRMS, pan: PAN, ratio: int) -> HRMS:
    """GS: Gram-Schmidt, mode 1, whose intensity is the mean of the bands (Laben & Brower 2000).

    PAN is first given the mean and the deviation of that intensity, as in the toolbox.

    Args:
        lrms: (b, c, h, w), any linear unit.
        pan: (b, 1, ratio*h, ratio*w), any linear unit.
        ratio: PAN-to-MS scale, at least 2.
    Returns: (b, c, ratio*h, ratio*w), in the unit of `lrms`, not clipped.
    Raises: ValueError if the pair does not fit `ratio`.
    """
    check_pair(lrms, pan, ratio)
    lms = upsample(lrms, ratio)
    intensity = lms.mean(1, keepdim=True)
    return lms + slope(lms, intensity) * _detail(pan, pan, intensity)


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


def _blurred(image: Image, ratio: int) -> Image:
    """Bicubic to low resolution and back."""
    height, width = image.shape[-2:]
    return imresize(imresize(image, (height // ratio, width // ratio)), (height, width))


def _explained(target: Float[Tensor, "b k H W"], bands: Image) -> Float[Tensor, "b k H W"]:
    """What the bands and a constant explain, by least squares, of the target at their resolution."""
    bands0 = centred(bands)
    weights = least_squares(blocks(bands0, 1, 1), blocks(target - mean(target), 1, 1))[:, 0, 0]
    return mean(target) + torch.einsum("bck,bchw->bkhw", weights.to(bands), bands0)


def pracs(lrms: LRMS, pan: PAN, ratio: int, beta: float = 0.95) -> HRMS:
    """PRACS: an adaptive mixture of PAN and the band replaces what all bands explain of it (Choi et al. 2011).

    Args:
        lrms: (b, c, h, w), any linear unit that is 0 where there is no light.
        pan: (b, 1, ratio*h, ratio*w), the same unit.
        ratio: PAN-to-MS scale, at least 2.
        beta: strength of the details; the toolbox has 0.95 for 11-bit sensors and 1.95 for 8-bit ones.
    Returns: (b, c, ratio*h, ratio*w), in the unit of `lrms`, not clipped.
    Raises: ValueError if the pair does not fit `ratio`.
    """
    check_pair(lrms, pan, ratio)
    lms = upsample(lrms, ratio)
    matched = quotient(deviation(pan), deviation(lms)) * (lms - mean(lms)) + mean(pan)
    matched = matched.clamp(min=0)
    intensity = _explained(_blurred(pan, ratio), matched)
    share = correlation(matched, intensity)
    partial = share * pan + (1 - share) * matched
    partial_low = _explained(_blurred(partial, ratio), matched)
    detail = partial - partial_low - mean(partial - partial_low)
    spread = deviation(lms)
    weight = beta * correlation(lms, partial_low) * quotient(spread, spread.mean(1, keepdim=True))
    stability = 1 - (1 - correlation(lms, intensity) * quotient(lms, partial_low)).abs()
    return lms + weight * stability * detail
