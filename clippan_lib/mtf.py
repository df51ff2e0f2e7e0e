"""Linear operators of the imaging model: MTF filtering, decimation, bicubic resizing and interpolation.

Conventions are those of the public MATLAB toolbox (Vivone et al. 2015 [vivone2015critical], 2021
[vivone2021new]). One phase holds everywhere: low-resolution pixel k lies on high-resolution pixel ratio*k +
ratio//2. Every operator is linear and differentiable, and works on the device and in the dtype of its input.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from scipy.fft import next_fast_len
from torch import Tensor

from clippan_lib.shapes import LRMS, Image

Border = Literal["circular", "replicate"]
Kernels = Float[Tensor, "_ k k"]

# the half from the centre outwards; every other tap but the centre is zero
_TAPS23 = np.zeros(12)
_TAPS23[0] = 0.5
_TAPS23[1::2] = (
    0.305334091185,
    -0.072698593239,
    0.021809577942,
    -0.005192756653,
    0.000807762146,
    -6.0081482e-5,
)

_PIECE = 16  # LRMS px
REACH = 8  # px to which `sharpened` reaches, all but nothing beyond
STRONGEST = 4.0  # gain of `sharpened`; beyond it noise is what is seen

_AT_BORDER = {
    "circular": lambda index, length: index % length,
    "replicate": lambda index, length: index.clip(0, length - 1),
}


@lru_cache(maxsize=256)
def _gaussian_kernel(gain: float, cutoff: float, size: int) -> np.ndarray:
    """Window-method filter; its Gaussian response falls to `gain` at `cutoff` frequency samples from zero."""
    axis = np.arange(size) - size // 2
    radius = np.hypot(axis[:, None], axis[None, :])
    response = np.exp(radius**2 * (np.log(gain) / cutoff**2))
    impulse = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(response))).real
    # fwind1 turns the 1-D window round its centre and reads it by linear interpolation
    window = np.interp(radius, axis[size // 2 :], np.kaiser(size, 0.5)[size // 2 :], right=0.0)
    return impulse * window


def _check_kernel(gnyq: Sequence[float], ratio: int, size: int) -> None:
    if not gnyq or not all(0 < gain < 1 for gain in gnyq):
        raise ValueError(f"MTF gains {tuple(gnyq)} must each lie between 0 and 1; give one per band")
    if ratio < 2 or size < 3 or size % 2 == 0:
        raise ValueError(f"ratio {ratio} must be 2 or more, and size {size} odd and at least 3")


def mtf_kernel(gnyq: Sequence[float], ratio: int, size: int = 41) -> Float64[Tensor, "c {size} {size}"]:
    """Filters matched to a sensor's MTF: Gaussian responses with the given gains at the Nyquist frequency.

    The toolbox's genMTF (Aiazzi et al. 2006 [aiazzi2006mtf]): fwind1 with a rotated Kaiser window, not
    renormalised, so each kernel sums to a little under 1. The toolbox's frequency grid meets the gain at (size
    - 1) / size of the Nyquist frequency; at Nyquist itself the response of 41 taps is 5 to 6 % lower
    (10_glossary measures it).

    Args:
        gnyq: gain at the low-resolution Nyquist frequency, one per band, in (0, 1).
        ratio: PAN-to-MS scale, at least 2.
        size: side of the kernels, odd.
    Returns: (c, size, size) float64 on the CPU.
    Raises: ValueError on a gain outside (0, 1), a ratio under 2 or an even size.
    """
    _check_kernel(gnyq, ratio, size)
    kernels = [_gaussian_kernel(gain, (size - 1) / (2 * ratio), size) for gain in gnyq]
    return torch.from_numpy(np.stack(kernels))


def lowpass_kernel(ratio: int, size: int = 41) -> Float64[Tensor, "1 {size} {size}"]:
    """The toolbox's LPfilterGauss: gain 0.3, with `size` where genMTF has `size - 1`.

    Args:
        ratio: PAN-to-MS scale, at least 2.
        size: side of the kernel, odd.
    Returns: (1, size, size) float64 on the CPU.
    Raises: ValueError on a ratio under 2 or an even size.
    """
    _check_kernel((0.3,), ratio, size)
    return torch.from_numpy(_gaussian_kernel(0.3, size / (2 * ratio), size)[None].copy())


def filter_image(image: Image, kernels: Kernels) -> Image:
    """Filter each band with its kernel, repeating the border pixels (imfilter, "replicate").

    By Fourier transform: for 41 x 41 taps faster than a convolution, closer to exact in float32, and on a GPU
    untouched by TF32.

    Args:
        image: (b, c, H, W).
        kernels: (c, k, k), or (1, k, k) for all bands, k odd.
    Returns: (b, c, H, W).
    Raises: ValueError if the count of kernels is neither 1 nor c.
    """
    bands, half = image.shape[1], kernels.shape[-1] // 2
    if kernels.shape[0] not in (1, bands):
        raise ValueError(f"{kernels.shape[0]} kernels for {bands} bands; give one per band, or one for all")
    padded = F.pad(image, (half,) * 4, mode="replicate")
    # of small prime factors: 424, a side of 384 with its border, takes three times as long as 432
    size = [next_fast_len(side, real=True) for side in padded.shape[-2:]]
    response = torch.fft.rfft2(kernels.to(image), s=size).conj()
    filtered = torch.fft.irfft2(torch.fft.rfft2(padded, s=size) * response, s=size)
    return filtered[..., : image.shape[-2], : image.shape[-1]]


def check_sharpness(gain: float) -> None:
    """Raise ValueError on a gain that `sharpened` does not take."""
    if not 0 < gain <= STRONGEST:
        raise ValueError(f"gain {gain} at Nyquist must lie above 0, and be {STRONGEST:.0f} at most")


def sharpened(image: Image, gain: float) -> Image:
    """Filter with a response that grows, or falls, to `gain` at the image's own Nyquist frequency.

    Below 1 a Gaussian, above 1 the inverse of one: what is as sharp as optics with one gain becomes as sharp as with
    another, whose ratio `gain` is. Towards the corners of the spectrum it grows no further than `gain`. By Fourier
    transform, as a Gaussian that narrow cannot be sampled: its taps would have another response.

    Args:
        image: (b, c, H, W).
        gain: in (0, 4]; 1 leaves the image as it is; above 1 noise grows, too.
    Returns: (b, c, H, W); border pixels are repeated.
    Raises: ValueError on a gain outside (0, 4].
    """
    check_sharpness(gain)
    if gain == 1:
        return image
    height, width = image.shape[-2:]
    padded = F.pad(image, (REACH,) * 4, mode="replicate")
    size = [next_fast_len(side, real=True) for side in padded.shape[-2:]]
    down = torch.fft.fftfreq(size[0], device=image.device, dtype=image.dtype)[:, None]
    across = torch.fft.rfftfreq(size[1], device=image.device, dtype=image.dtype)
    response = gain ** ((2 * down).square() + (2 * across).square())
    response = response.clamp(max=max(gain, 1.0))
    filtered = torch.fft.irfft2(torch.fft.rfft2(padded, s=size) * response, s=size)
    return filtered[..., REACH : REACH + height, REACH : REACH + width]


def decimate(image: Image, ratio: int) -> LRMS:
    """Keep the pixels ratio*k + ratio//2 of both axes.

    Args:
        image: (b, c, H, W), both sides multiples of `ratio`.
        ratio: PAN-to-MS scale.
    Returns: (b, c, H/ratio, W/ratio).
    Raises: ValueError if a side is no multiple of `ratio`.
    """
    _check_multiple(image, ratio)
    return image[..., ratio // 2 :: ratio, ratio // 2 :: ratio]


def _check_multiple(image: Image, ratio: int) -> None:
    if image.shape[-2] % ratio or image.shape[-1] % ratio:
        raise ValueError(f"image sides {tuple(image.shape[-2:])} are no multiples of ratio {ratio}; crop it")


def degrade(image: Image, gnyq: Sequence[float], ratio: int) -> LRMS:
    """What the sensor would have seen `ratio` times coarser (Wald's protocol): MTF filter, then decimation.

    Wald, Ranchin and Mangolini 1997 [wald1997fusion].

    Args:
        image: (b, c, H, W), both sides multiples of `ratio`.
        gnyq: MTF gain at Nyquist, one per band (or one for all), in (0, 1).
        ratio: PAN-to-MS scale, at least 2.
    Returns: (b, c, H/ratio, W/ratio).
    Raises: ValueError if a side is no multiple of `ratio`, or the gains do not fit the bands.

    >>> from clippan_lib.sensors import get_sensor
    >>> degrade(torch.rand(1, 8, 64, 64), get_sensor("WV3").gnyq, ratio=4).shape
    torch.Size([1, 8, 16, 16])
    """
    _check_multiple(image, ratio)
    return decimate(filter_image(image, mtf_kernel(gnyq, ratio)), ratio)


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel, a = -1/2."""
    d = np.abs(distance)
    near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return np.where(d <= 1, near, np.where(d <= 2, far, 0.0))


@lru_cache(maxsize=64)
def _resize_matrix(old: int, new: int) -> np.ndarray:
    """(new, old) weights of MATLAB's imresize along one axis."""
    scale = new / old
    shrink = min(scale, 1.0)
    centre = (np.arange(new) + 0.5) / scale - 0.5
    reach = 2 / shrink
    taps = np.floor(centre - reach)[:, None] + np.arange(int(np.ceil(2 * reach)) + 2)
    weights = _cubic(shrink * (centre[:, None] - taps))
    weights /= weights.sum(1, keepdims=True)
    folded = taps.astype(int) % (2 * old)
    columns = np.minimum(folded, 2 * old - 1 - folded)  # mirrored, the border pixel repeated
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new)[:, None], columns), weights)
    return matrix


def separable(image: LRMS, rows: np.ndarray, columns: np.ndarray) -> Image:
    """Apply one matrix along each axis.

    Args:
        image: (b, c, h, w).
        rows: (H, h) weights of the vertical axis.
        columns: (W, w) weights of the horizontal axis.
    Returns: (b, c, H, W).
    """
    return torch.as_tensor(rows).to(image) @ image @ torch.as_tensor(columns).to(image).mT


def imresize(image: LRMS, size: tuple[int, int]) -> Image:
    """MATLAB's imresize: bicubic (a = -1/2), antialiased when shrinking, mirrored at the border.

    Pixel areas stay aligned: shrinking by 4 centres pixel k on 4k + 1.5, half a pixel off the phase of
    `decimate`. The toolbox degrades PAN in this way.

    Args:
        image: (b, c, H, W).
        size: the new (H, W).
    Returns: (b, c, *size).
    Raises: ValueError on a size under 1.
    """
    if min(size) < 1:
        raise ValueError(f"new size {size} must be at least 1 x 1")
    rows, columns = (_resize_matrix(old, new) for old, new in zip(image.shape[-2:], size, strict=True))
    return separable(image, rows, columns)


@lru_cache(maxsize=16)
def _impulse(ratio: int) -> np.ndarray:
    """Response, on the fine grid, of interpolation by `ratio` to one low-resolution pixel."""
    if ratio not in (2, 4):
        return _cubic(np.arange(-2 * ratio, 2 * ratio + 1) / ratio)
    stage = 2 * np.concatenate([_TAPS23[:0:-1], _TAPS23])
    if ratio == 2:
        return stage
    spread = np.zeros(2 * len(stage) - 1)
    spread[::2] = stage
    return np.convolve(spread, stage)


@lru_cache(maxsize=64)
def _interpolation_matrix(length: int, ratio: int) -> tuple[np.ndarray, int]:
    """(ratio*length, length + 2*margin) weights along one axis, and the margin: coarse pixels needed on each side."""
    impulse = _impulse(ratio)
    half = len(impulse) // 2
    margin = (half + ratio // 2) // ratio
    offset = np.arange(ratio * length)[:, None] - ratio * np.arange(-margin, length + margin) - ratio // 2
    return np.where(np.abs(offset) <= half, impulse[np.clip(offset + half, 0, 2 * half)], 0.0), margin


def _interpolate(image: LRMS, ratio: int, border: Border) -> Image:
    for axis in (-1, -2):
        # in pieces, each a small matrix product: a matrix for the whole side would be all but empty
        side = image.shape[axis]
        pieces = -(-side // _PIECE)
        length = -(-side // pieces)
        weights, margin = _interpolation_matrix(length, ratio)
        taps = _AT_BORDER[border](np.arange(-margin, pieces * length + margin), side)
        coarse = image.index_select(axis, torch.from_numpy(taps).to(image.device))
        coarse = coarse.unfold(axis, length + 2 * margin, length)
        matrix = torch.as_tensor(weights).to(image)
        if axis == -1:
            # one product of two matrices: for thousands of small ones threads would wait for each other
            fine = coarse.reshape(-1, coarse.shape[-1]) @ matrix.mT
            image = fine.view(*coarse.shape[:-2], -1)[..., : ratio * side]
        else:
            image = (matrix @ coarse.mT).flatten(-3, -2)[..., : ratio * side, :]
    return image


def exp23(lrms: LRMS, ratio: int, border: Border = "replicate") -> Image:
    """The toolbox's EXP (interp23tap): 23-tap interpolation, once per factor 2.

    Aiazzi et al. 2002 [aiazzi2002context]. Low-resolution pixel k is found unchanged at ratio*k + ratio//2.

    Args:
        lrms: (b, c, h, w).
        ratio: 2 or 4 (the phase of the toolbox's filter is right for these only).
        border: what lies beyond the image: "replicate" is its border pixels, repeated; "circular" its opposite
            side, as the toolbox has it, for comparisons with its outputs.
    Returns: (b, c, ratio*h, ratio*w).
    Raises: ValueError on any other ratio.
    """
    if ratio not in (2, 4):
        raise ValueError(f"exp23 interpolates by 2 or 4, not by {ratio}; use `upsample`")
    return _interpolate(lrms, ratio, border)


def upsample(lrms: LRMS, ratio: int, border: Border = "replicate") -> Image:
    """LRMS at the size of PAN: `exp23` for ratio 2 and 4, cubic convolution for any other.

    Aiazzi et al. 2002 [aiazzi2002context]; Keys 1981 [keys1981cubic]. Both put low-resolution pixel k,
    unchanged, at ratio*k + ratio//2: the phase of `decimate`, not that of `torch.nn.functional.interpolate`,
    whose bicubic puts it at ratio*k + (ratio - 1)/2.

    Args:
        lrms: (b, c, h, w).
        ratio: PAN-to-MS scale, at least 2.
        border: as in `exp23`.
    Returns: (b, c, ratio*h, ratio*w).
    Raises: ValueError on a ratio under 2.

    >>> lrms = torch.rand(1, 8, 16, 16)
    >>> lms = upsample(lrms, ratio=4)
    >>> lms.shape
    torch.Size([1, 8, 64, 64])
    >>> torch.equal(lms[..., 2::4, 2::4], lrms)
    True
    """
    if ratio < 2:
        raise ValueError(f"ratio {ratio} must be 2 or more")
    # networks add details to this image; rounded as their layers may be, it would lose its own
    with torch.autocast(lrms.device.type, enabled=False):
        return _interpolate(lrms, ratio, border)
