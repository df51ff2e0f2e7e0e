"""Component substitution: one component of the bands, a combination of them, is replaced by PAN."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from clippan_lib.fusion.classical.least_squares import least_squares
from clippan_lib.fusion.classical.lowpass import wavelet_lowpass, wavelet_reach
from clippan_lib.fusion.classical.stages import Stages, staged
from clippan_lib.fusion.classical.statistics import (
    Moments,
    PerBand,
    Percentile,
    Spread,
    modulation,
    quotient_or_zero,
)
from clippan_lib.fusion.reach import of_fine, of_lms
from clippan_lib.mtf import Border, filter_image, imresize, lowpass_kernel, separable, upsample
from clippan_lib.shapes import LRMS, PAN, Image, check_pair

# shares of the first percentile of blue, green, red and near infrared that are haze
_HAZE_SHARES = (0.95, 0.45, 0.40, 0.05)


def _detail(pan0: PAN, intensity0: PAN, gain: PerBand) -> PAN:
    """PAN, given mean and deviation of the intensity, less the intensity; 0 where either is constant."""
    return (gain * pan0 - intensity0).masked_fill_(gain == 0, 0.0)


def _pan_detail(spread: Moments, pan: PAN, intensity: PAN) -> PAN:
    gain = quotient_or_zero(spread.deviation("intensity"), spread.deviation("pan"))
    return _detail(spread.centred("pan", pan), spread.centred("intensity", intensity), gain)


def _combined(weights: Float64[Tensor, "b c k"], bands: Image) -> Float[Tensor, "b k H W"]:
    # not einsum, which copies the bands into another order first
    return (weights.to(bands).mT @ bands.flatten(2)).unflatten(2, bands.shape[2:])


@staged(of_lms)
def gihs(lrms: LRMS, pan: PAN, ratio: int, border: Border = "replicate") -> Stages:
    """GIHS: every band gets PAN less the mean of the bands (generalised IHS; Tu et al. 2001 [tu2001new]).

    PAN is first given the mean and the deviation of that intensity, as in the toolbox.

    Args:
        lrms: (b, c, h, w), any linear unit.
        pan: (b, 1, ratio*h, ratio*w), any linear unit.
        ratio: PAN-to-MS scale, at least 2.
        border: how EXP extends the image at its border, as in `mtf.upsample`.
    Returns: (b, c, ratio*h, ratio*w), in the unit of `lrms`, not clipped.
    Raises: ValueError if the pair does not fit `ratio`.
    """
    check_pair(lrms, pan, ratio)
    lms = upsample(lrms, ratio, border)
    intensity = lms.mean(1, keepdim=True)
    (spread,) = yield (Spread(pan=pan, intensity=intensity),)
    return lms + _pan_detail(spread, pan, intensity)


@staged(of_lms)
def brovey(lrms: LRMS, pan: PAN, ratio: int, border: Border = "replicate") -> Stages:
    """Brovey: every band modulated by PAN over the mean of the bands.

    Gillespie, Kahle and Walker 1987 [gillespie1987color]. PAN is first given the mean and the deviation of that
    intensity, as in the toolbox.

    Args:
        lrms: (b, c, h, w), any linear unit that is 0 where there is no light.
        pan: (b, 1, ratio*h, ratio*w), any linear unit.
        ratio: PAN-to-MS scale, at least 2.
        border: how EXP extends the image at its border, as in `mtf.upsample`.
    Returns: (b, c, ratio*h, ratio*w), in the unit of `lrms`, not clipped.
    Raises: ValueError if the pair does not fit `ratio`.
    """
    check_pair(lrms, pan, ratio)
    lms = upsample(lrms, ratio, border)
    intensity = lms.mean(1, keepdim=True)
    (spread,) = yield (Spread(lms=lms, pan=pan, intensity=intensity),)
    factor = modulation(
        lms, intensity, spread.deviation("lms"), spread.mean("intensity"), spread.deviation("intensity")
    )
    return torch.addcmul(lms, _pan_detail(spread, pan, intensity), factor)


@staged(lambda ratio: max(of_lms(ratio), of_fine(ratio, 20)))
def bt_h(lrms: LRMS, pan: PAN, ratio: int, border: Border = "replicate") -> Stages:
    """BT-H: Brovey above the haze, the intensity fitted to the low-passed PAN.

    Lolli et al. 2017 [lolli2017haze]. As in the toolbox, the haze is the least value of each band; but four
    bands are taken for blue, green, red and near infrared, whose haze is a share of the first percentile, and
    values under it are raised to it.

    Args:
        lrms: (b, c, h, w), any linear unit that is 0 where there is no light.
        pan: (b, 1, ratio*h, ratio*w), likewise.
        ratio: PAN-to-MS scale, at least 2.
        border: how EXP extends the image at its border, as in `mtf.upsample`.
    Returns: (b, c, ratio*h, ratio*w), in the unit of `lrms`, not clipped.
    Raises: ValueError if the pair does not fit `ratio`.
    """
    check_pair(lrms, pan, ratio)
    lms = upsample(lrms, ratio, border)
    pan_low = filter_image(pan, lowpass_kernel(ratio))
    of_haze = lms.shape[1] == len(_HAZE_SHARES)
    spread, dark = yield Spread(lms=lms, pan_low=pan_low), Percentile(lms, 1.0 if of_haze else 0.0)
    haze = dark.percentile()
    if of_haze:
        haze = haze * lms.new_tensor(_HAZE_SHARES)[:, None, None]
    weights = least_squares(spread.products("lms", "lms"), spread.products("lms", "pan_low"))
    spread = spread.with_combination("intensity", "lms", weights)
    # centred: a constant band brings its value, not its rounding, which would be all that stands above its haze
    intensity0 = _combined(weights, spread.centred("lms", lms))
    level, deviation = _combined(weights, spread.mean("lms") - haze), spread.deviation("intensity")
    gain = quotient_or_zero(deviation, spread.deviation("pan_low"))
    detail = _detail(pan - spread.mean("pan_low"), intensity0, gain)
    above = (lms - haze).clamp(min=0)
    factor = modulation(above, intensity0 + level, spread.deviation("lms"), level, deviation)
    return torch.addcmul(torch.maximum(lms, haze), detail, factor)


@staged(of_lms)
def gs(lrms: LRMS, pan: PAN, ratio: int, border: Border = "replicate") -> Stages:
    """GS: Gram-Schmidt, mode 1, whose intensity is the mean of the bands.

    Laben and Brower 2000 [laben2000process]. PAN is first given the mean and the deviation of that intensity,
    as in the toolbox.

    Args:
        lrms: (b, c, h, w), any linear unit.
        pan: (b, 1, ratio*h, ratio*w), any linear unit.
        ratio: PAN-to-MS scale, at least 2.
        border: how EXP extends the image at its border, as in `mtf.upsample`.
    Returns: (b, c, ratio*h, ratio*w), in the unit of `lrms`, not clipped.
    Raises: ValueError if the pair does not fit `ratio`.
    """
    check_pair(lrms, pan, ratio)
    lms = upsample(lrms, ratio, border)
    intensity = lms.mean(1, keepdim=True)
    (spread,) = yield (Spread(lms=lms, pan=pan, intensity=intensity),)
    return torch.addcmul(lms, _pan_detail(spread, pan, intensity), spread.slope("lms", "intensity"))


@staged(lambda ratio: max(of_lms(ratio), of_fine(ratio, wavelet_reach(ratio))))
def gsa(lrms: LRMS, pan: PAN, ratio: int, border: Border = "replicate") -> Stages:
    """GSA: Gram-Schmidt with the intensity fitted to PAN at low resolution.

    Aiazzi, Baronti and Selva 2007 [aiazzi2007improving].

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
    pan_lr = separable(pan, *(wavelet_lowpass(side, ratio) for side in pan.shape[-2:]))
    fine, low = yield Spread(lms=lms, pan=pan), Spread(lrms=lrms, pan=pan_lr)
    weights = least_squares(low.covariance("lrms", "lrms"), low.covariance("lrms", "pan"))
    intensity0 = _combined(weights, fine.centred("lms", lms))
    gain = fine.with_combination("intensity", "lms", weights).slope("lms", "intensity")
    return torch.addcmul(lms, fine.centred("pan", pan) - intensity0, gain)


def _blurred(image: Image, ratio: int) -> Image:
    """Bicubic to low resolution and back."""
    height, width = image.shape[-2:]
    return imresize(imresize(image, (height // ratio, width // ratio)), (height, width))


def _explaining(spread: Moments, target: str) -> Float64[Tensor, "b c k"]:
    """Weights of the matched bands, beside a constant, in what they explain of the target by least squares."""
    return least_squares(spread.covariance("matched", "matched"), spread.covariance("matched", target))


@staged(lambda ratio: of_lms(ratio, ratio + 5 * ratio // 2))
def pracs(lrms: LRMS, pan: PAN, ratio: int, beta: float = 0.95, border: Border = "replicate") -> Stages:
    """PRACS: an adaptive mixture of PAN and the band replaces what all bands explain of it.

    Choi, Yu and Kim 2011 [choi2011new].

    Args:
        lrms: (b, c, h, w), any linear unit that is 0 where there is no light.
        pan: (b, 1, ratio*h, ratio*w), the same unit.
        ratio: PAN-to-MS scale, at least 2.
        beta: strength of the details; the toolbox has 0.95 for 11-bit sensors and 1.95 for 8-bit ones.
        border: how EXP extends the image at its border, as in `mtf.upsample`.
    Returns: (b, c, ratio*h, ratio*w), in the unit of `lrms`, not clipped.
    Raises: ValueError if the pair does not fit `ratio`.
    """
    check_pair(lrms, pan, ratio)
    lms = upsample(lrms, ratio, border)
    (spread,) = yield (Spread(lms=lms, pan=pan),)
    contrast = spread.deviation("lms")
    matched = quotient_or_zero(spread.deviation("pan"), contrast) * (lms - spread.mean("lms")) + spread.mean(
        "pan"
    )
    matched = matched.clamp(min=0)
    (spread,) = yield (Spread(lms=lms, matched=matched, pan_low=_blurred(pan, ratio)),)
    spread = spread.with_combination("intensity", "matched", _explaining(spread, "pan_low"))
    share, similarity = (spread.correlation(name, "intensity") for name in ("matched", "lms"))
    partial = share * pan + (1 - share) * matched
    (spread,) = yield (Spread(lms=lms, matched=matched, partial=partial, blurred=_blurred(partial, ratio)),)
    weights = _explaining(spread, "blurred")
    spread = spread.with_combination("partial_low", "matched", weights)
    partial_low0 = _combined(weights, spread.centred("matched", matched))
    level = spread.mean("blurred")
    weight = (
        beta
        * spread.correlation("lms", "partial_low")
        * quotient_or_zero(contrast, contrast.mean(1, keepdim=True))
    )
    alike = modulation(lms, partial_low0 + level, contrast, level, spread.deviation("partial_low"))
    stability = 1 - (1 - similarity * alike).abs()
    return lms + weight * stability * (partial - spread.mean("partial") - partial_low0)
