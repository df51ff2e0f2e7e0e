"""Filter estimation: the low-pass that parts PAN from the bands is taken from the pair itself, not the sensor."""

import torch
import torch.nn.functional as F
from jaxtyping import Float64
from torch import Tensor

from clippan_lib.fusion.classical.least_squares import least_squares
from clippan_lib.fusion.classical.lowpass import wavelet_smoothing
from clippan_lib.fusion.classical.multiresolution import matched, modulated
from clippan_lib.fusion.classical.stages import Stages, staged
from clippan_lib.fusion.classical.statistics import Spread, centred, quotient_or_zero
from clippan_lib.mtf import Border, decimate, filter_image, separable, upsample
from clippan_lib.shapes import LRMS, PAN, Image, check_pair

_ITERATIONS = 5
_LEAST_TAP = 1e-3

Kernel = Float64[Tensor, "b k k"]


def edge_taper(image: Image, width: int) -> Image:
    """Blend the border into its circular blur, so that opposite sides meet without a step.

    MATLAB's edgetaper for a square of `width` ones: the image's weight rises linearly from 0 on the border
    to 1 at `width` pixels from it.

    Args:
        image: (b, c, H, W), both sides above 2*width.
        width: side of the blurring square in pixels, at least 1.
    Returns: (b, c, H, W).
    """
    rows, columns = (
        torch.minimum(torch.arange(side), side - 1 - torch.arange(side)).to(image).div(width).clamp(max=1)
        for side in image.shape[-2:]
    )
    before, after = (width - 1) // 2, width // 2
    blurred = F.avg_pool2d(F.pad(image, (before, after) * 2, mode="circular"), width, stride=1)
    return torch.lerp(blurred, image, rows[:, None] * columns)


def _blur(pan: PAN, psf: Kernel) -> PAN:
    """Each image with its own kernel."""
    return filter_image(pan.transpose(0, 1), psf).transpose(0, 1)


def _combine(bands: Image, target: PAN) -> PAN:
    """The combination of the bands that is closest to the target."""
    spread = Spread(bands=bands, target=target).tally()
    weights = least_squares(spread.products("bands", "bands"), spread.products("bands", "target"))
    return torch.einsum("bck,bchw->bkhw", weights, bands)


def _penalty(pan: PAN, regularisation: float) -> Float64[Tensor, "b 1 H half"]:
    """What the deconvolution adds to PAN's power: a constant, and as much times the gradient's response.

    The gradient is that of 2 x 2 pixels (the toolbox's 'Basic'), whose squared response has this closed form.
    """
    height, width = pan.shape[-2:]
    energy = centred(pan).square().sum((-2, -1), keepdim=True)
    rows = torch.fft.fftfreq(height, dtype=pan.dtype, device=pan.device)
    columns = torch.fft.rfftfreq(width, dtype=pan.dtype, device=pan.device)
    gradient = 8 * (1 - (2 * torch.pi * rows).cos()[:, None] * (2 * torch.pi * columns).cos())
    # a PAN without contrast says nothing of the filter, which the infinite weight then makes 0
    return regularisation * energy.masked_fill(energy == 0, torch.inf) * (1 + gradient)


def _deconvolve(pan: PAN, blurred: PAN, penalty: Float64[Tensor, "b 1 H half"], taps: int) -> Kernel:
    """The kernel that turns PAN into its blurred image, cut out round its peak; identity if none is found."""
    b, _, height, width = pan.shape
    spectrum = torch.fft.rfft2(pan)
    quotients = spectrum.conj() * torch.fft.rfft2(blurred) / (spectrum.abs().square() + penalty)
    response = torch.fft.irfft2(quotients, s=(height, width))[:, 0]
    response = response.masked_fill(response < _LEAST_TAP, 0.0)
    peak = response.flatten(1).argmax(1)[:, None]
    reach = torch.arange(taps, device=pan.device) - taps // 2
    rows, columns = (peak // width + reach) % height, (peak % width + reach) % width
    psf = response[torch.arange(b, device=pan.device)[:, None, None], rows[:, :, None], columns[:, None]]
    identity = ((reach[:, None] == 0) & (reach == 0)).to(psf)
    total = psf.sum((-2, -1), keepdim=True)
    return torch.where(total > 0, psf / total, identity)


def estimate_psf(
    lms: Image, pan: PAN, ratio: int, taps: int = 25, regularisation: float = 1e-4
) -> Float64[Tensor, "b {taps} {taps}"]:
    """The low-pass that takes PAN to the resolution of the bands, by semi-blind deconvolution.

    Vivone et al. 2015 [vivone2015semiblind], with the toolbox's five iterations: the combination of bands
    closest to the blurred PAN is deconvolved by PAN under a penalty on the filter's energy and gradient; taps
    under 1e-3 are dropped.

    Departs from it in: the penalty. The toolbox adds an absolute 1e5, which means another filter in another
    unit or image size; ours is relative to PAN's energy, sum (pan - mean)^2, per image. The toolbox's filter
    is that of `regularisation` = 1e5 over the energy in digital numbers, 1.1e-4 and 1.5e-4 on 128 x 128
    pixels of WorldView-2. Where no tap is large enough the toolbox divides by 0; ours is the identity.

    Args:
        lms: (b, c, H, W), the LRMS at the size of PAN, any linear unit.
        pan: (b, 1, H, W), the same unit.
        ratio: PAN-to-MS scale, at least 2.
        taps: side of the filter, odd, at least 3, at most the shorter side of `pan`.
        regularisation: weight of the penalty, above 0.
    Returns: (b, taps, taps), non-negative, each summing to 1; to be used as a correlation (`filter_image`).
    Raises: ValueError on taps that are even, too few or too many, or a regularisation that is not positive.
    """
    if taps < 3 or taps % 2 == 0 or taps > min(pan.shape[-2:]):
        raise ValueError(
            f"taps {taps} must be odd, at least 3 and at most the sides {tuple(pan.shape[-2:])} of pan"
        )
    if regularisation <= 0:
        raise ValueError(f"regularisation {regularisation} must be positive")
    lms, pan = lms.double(), pan.double()
    bands = torch.cat([lms, torch.ones_like(pan)], 1)
    penalty = _penalty(pan, regularisation)
    pan_low = separable(pan, *(wavelet_smoothing(side, ratio) for side in pan.shape[-2:]))
    for _ in range(_ITERATIONS):
        intensity = edge_taper(_combine(bands, pan_low), taps // 2)
        pan = edge_taper(pan, taps // 2)  # once more at each iteration, as in the toolbox
        psf = _deconvolve(pan, intensity, penalty, taps)
        pan_low = _blur(pan, psf)
    return psf


@staged(lambda ratio: None)  # the filter is estimated by Fourier transform of all pixels
def fe_hpm(
    lrms: LRMS,
    pan: PAN,
    ratio: int,
    taps: int = 25,
    regularisation: float = 1e-4,
    border: Border = "replicate",
) -> Stages:
    """FE-HPM: each band modulated by PAN over its low-pass, the filter estimated from the pair itself.

    Vivone et al. 2015 [vivone2015semiblind]; `estimate_psf` says in what it departs from the toolbox.

    Args:
        lrms: (b, c, h, w), any linear unit.
        pan: (b, 1, ratio*h, ratio*w), the same unit.
        ratio: PAN-to-MS scale, at least 2.
        taps: side of the filter, odd, at least 3, at most the shorter side of `pan`.
        regularisation: weight of the estimate's penalty, relative to PAN's energy, above 0.
        border: how EXP extends the image at its border, as in `mtf.upsample`.
    Returns: (b, c, ratio*h, ratio*w), in the unit of `lrms`, not clipped.
    Raises: ValueError if the pair does not fit `ratio`, the taps do not fit `pan` or are even, or the
        regularisation is not positive.
    """
    check_pair(lrms, pan, ratio)
    lms = upsample(lrms, ratio, border)
    (spread,) = yield (Spread(lms=lms, pan=pan),)
    psf = estimate_psf(lms, pan, ratio, taps, regularisation)
    pan_low = upsample(decimate(_blur(pan, psf), ratio), ratio, border)
    gain = quotient_or_zero(spread.deviation("lms"), spread.deviation("pan"))
    return modulated(lms, matched(pan, spread, gain), matched(pan_low, spread, gain), spread)
