"""Multiresolution analysis: each band gets the details that PAN has above the band's own resolution."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from clippan_lib.fusion.classical.lowpass import wavelet_reach, wavelet_smoothing
from clippan_lib.fusion.classical.stages import Stages, staged
from clippan_lib.fusion.classical.statistics import Moments, PerBand, Spread, modulation, quotient_or_zero
from clippan_lib.fusion.reach import of_fine, of_lms
from clippan_lib.mtf import Border, degrade, filter_image, imresize, lowpass_kernel, separable, upsample
from clippan_lib.shapes import LRMS, PAN, Image, check_pair


def matched(image: Float[Tensor, "b _ H W"], spread: Moments, gain: PerBand) -> Image:
    """PAN, or a low-pass of it, in the unit of each band: PAN's mean becomes the band's, contrast times gain."""
    return gain * (image - spread.mean("pan")) + spread.mean("lms")


def modulated(lms: Image, matched_pan: Image, matched_low: Image, spread: Moments) -> Image:
    """High-pass modulation: each band times PAN over its low-pass; where that is dark, see `modulation`."""
    contrast = spread.deviation("lms")  # the low-pass was given that of the band
    factor = modulation(lms, matched_low, contrast, spread.mean("lms"), contrast)
    return torch.addcmul(lms, matched_pan - matched_low, factor)


def _glp_reach(ratio: int) -> int:
    """Of `_lowpass`, for kernels of 41 pixels."""
    return of_lms(ratio) + of_fine(ratio, 20)


def _lowpass(image: Image, gnyq: Sequence[float], ratio: int, border: Border) -> Image:
    return upsample(degrade(image, gnyq, ratio), ratio, border)


def _equalising(lms: Image, pan: PAN, ratio: int) -> Spread:
    return Spread(lms=lms, pan=pan, pan_low=filter_image(pan, lowpass_kernel(ratio)))


def _equalised(pan: PAN, spread: Moments) -> Image:
    """PAN per band, such that its Gaussian low-pass has the mean and the deviation of the band."""
    return matched(pan, spread, quotient_or_zero(spread.deviation("lms"), spread.deviation("pan_low")))


@staged(_glp_reach)
def mtf_glp(lrms: LRMS, pan: PAN, ratio: int, gnyq: Sequence[float], border: Border = "replicate") -> Stages:
    """MTF-GLP: each band plus the details of PAN above the band's MTF, PAN equalised to the band.

    Aiazzi et al. 2006 [aiazzi2006mtf], as in the toolbox: the equalised PAN is filtered, mean included, by
    kernels that sum to a little under 1, so each band gains about 0.1 % of its mean.

    Args:
        lrms: (b, c, h, w), any linear unit.
        pan: (b, 1, ratio*h, ratio*w), the same unit.
        ratio: PAN-to-MS scale, at least 2.
        gnyq: MTF gain at Nyquist, one per band, in (0, 1).
        border: how EXP extends the image at its border, as in `mtf.upsample`.
    Returns: (b, c, ratio*h, ratio*w), in the unit of `lrms`, not clipped.
    Raises: ValueError if the pair does not fit `ratio`.
    """
    check_pair(lrms, pan, ratio)
    lms = upsample(lrms, ratio, border)
    (spread,) = yield (_equalising(lms, pan, ratio),)
    equalised = _equalised(pan, spread)
    return lms + equalised - _lowpass(equalised, gnyq, ratio, border)


@staged(_glp_reach)
def mtf_glp_fs(
    lrms: LRMS, pan: PAN, ratio: int, gnyq: Sequence[float], border: Border = "replicate"
) -> Stages:
    """MTF-GLP-FS: details of PAN above each band's MTF, with gains regressed at full scale.

    Vivone, Restaino and Chanussot 2018 [vivone2018full]: the gain is the covariance of PAN with the band over
    that of PAN with its own low-pass.

    Args:
        lrms: (b, c, h, w), any linear unit.
        pan: (b, 1, ratio*h, ratio*w), the same unit.
        ratio: PAN-to-MS scale, at least 2.
        gnyq: MTF gain at Nyquist, one per band, in (0, 1).
        border: how EXP extends the image at its border, as in `mtf.upsample`.
    Returns: (b, c, ratio*h, ratio*w), in the unit of `lrms`, not clipped.
    Raises: ValueError if the pair does not fit `ratio`.
    """
    check_pair(lrms, pan, ratio)
    lms = upsample(lrms, ratio, border)
    pan_low = _lowpass(pan.expand(-1, lrms.shape[1], -1, -1), gnyq, ratio, border)
    (spread,) = yield (Spread(lms=lms, pan=pan, pan_low=pan_low),)
    return lms + quotient_or_zero(spread.slope("lms", "pan"), spread.slope("pan_low", "pan")) * (
        pan - pan_low
    )


@staged(_glp_reach)
def mtf_glp_hpm(
    lrms: LRMS, pan: PAN, ratio: int, gnyq: Sequence[float], border: Border = "replicate"
) -> Stages:
    """MTF-GLP-HPM: each band modulated by PAN over its low-pass, PAN equalised to the band.

    Aiazzi et al. 2003 [aiazzi2003mtf], 2006 [aiazzi2006mtf], as in the toolbox: the equalised PAN is filtered,
    mean included, by kernels that sum to a little under 1, so each band gains about 0.1 % of itself.

    Args:
        lrms: (b, c, h, w), any linear unit.
        pan: (b, 1, ratio*h, ratio*w), the same unit.
        ratio: PAN-to-MS scale, at least 2.
        gnyq: MTF gain at Nyquist, one per band, in (0, 1).
        border: how EXP extends the image at its border, as in `mtf.upsample`.
    Returns: (b, c, ratio*h, ratio*w), in the unit of `lrms`, not clipped.
    Raises: ValueError if the pair does not fit `ratio`.
    """
    check_pair(lrms, pan, ratio)
    lms = upsample(lrms, ratio, border)
    (spread,) = yield (_equalising(lms, pan, ratio),)
    equalised = _equalised(pan, spread)
    return modulated(lms, equalised, _lowpass(equalised, gnyq, ratio, border), spread)


@staged(_glp_reach)
def mtf_glp_hpm_r(
    lrms: LRMS, pan: PAN, ratio: int, gnyq: Sequence[float], border: Border = "replicate"
) -> Stages:
    """MTF-GLP-HPM-R: each band modulated by PAN over its low-pass, PAN matched to the band by regression.

    Vivone, Restaino and Chanussot 2018 [vivone2018regression], divided through by the gain, so that a gain of 0
    leaves the band as it is.

    Args:
        lrms: (b, c, h, w), any linear unit.
        pan: (b, 1, ratio*h, ratio*w), the same unit.
        ratio: PAN-to-MS scale, at least 2.
        gnyq: MTF gain at Nyquist, one per band, in (0, 1).
        border: how EXP extends the image at its border, as in `mtf.upsample`.
    Returns: (b, c, ratio*h, ratio*w), in the unit of `lrms`, not clipped.
    Raises: ValueError if the pair does not fit `ratio`.
    """
    check_pair(lrms, pan, ratio)
    lms = upsample(lrms, ratio, border)
    pan_low = _lowpass(pan.expand(-1, lrms.shape[1], -1, -1), gnyq, ratio, border)
    (spread,) = yield (Spread(lms=lms, pan=pan, pan_low=pan_low),)
    gain = spread.slope("lms", "pan_low")
    return modulated(lms, matched(pan, spread, gain), matched(pan_low, spread, gain), spread)


@staged(lambda ratio: max(of_lms(ratio), of_fine(ratio, wavelet_reach(ratio)), 4))
def awlp(lrms: LRMS, pan: PAN, ratio: int, border: Border = "replicate") -> Stages:
    """AWLP: à-trous wavelet details of PAN, shared among the bands in proportion to their brightness.

    Otazu et al. 2005 [otazu2005introduction], revisited by Vivone, Alparone, Garzelli and Lolli 2019
    [vivone2019fast]: PAN is first equalised to each band. The filter is the toolbox's, [1 4 6 4 1]/16 without holes.

    Args:
        lrms: (b, c, h, w), any linear unit.
        pan: (b, 1, ratio*h, ratio*w), the same unit.
        ratio: PAN-to-MS scale, at least 2.
        border: how EXP extends the image at its border, as in `mtf.upsample`.
    Returns: (b, c, ratio*h, ratio*w), in the unit of `lrms`, not clipped.
    Raises: ValueError if the pair does not fit `ratio`.
    """
    check_pair(lrms, pan, ratio)
    lms = upsample(lrms, ratio, border)
    fine, coarse = pan.shape[-2:], lrms.shape[-2:]
    intensity, pan_low = lms.mean(1, keepdim=True), imresize(imresize(pan, coarse), fine)
    (spread,) = yield (Spread(lms=lms, intensity=intensity, pan_low=pan_low),)
    gain = quotient_or_zero(spread.deviation("lms"), spread.deviation("pan_low"))
    details = gain * (pan - separable(pan, *(wavelet_smoothing(side, ratio) for side in fine)))
    factor = modulation(
        lms, intensity, spread.deviation("lms"), spread.mean("intensity"), spread.deviation("intensity")
    )
    return torch.addcmul(lms, details, factor)
