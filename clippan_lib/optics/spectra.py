"""Power spectra of images, averaged over all directions: how much is left at each scale."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64

from clippan_lib.shapes import Image

_RINGS = 32
_SMALLEST = 8  # px, for four rings
_FLAT = 1e-13  # variance of what is constant but for rounding


class Spectrum(NamedTuple):
    """What `power_spectrum` gives.

    Args:
        frequency: (n,), cycles per pixel, rising, up to the image's Nyquist frequency: the mean of each ring.
        power: (n,), mean of each ring, relative to white noise of the same variance on the pixels that frequencies
            are counted in.
    """

    frequency: Float64[np.ndarray, " n"]
    power: Float64[np.ndarray, " n"]


def power_spectrum(image: Image, ratio: int = 1) -> Spectrum:
    """The power of an image by frequency, averaged over rings of equal width, planes and bands.

    Each plane is weighted by a Hann window, so that borders that do not meet are no detail, and divided by its own
    variance under that window. So the spectra of MS and PAN, whose scales differ, lie close together where both show
    the same. A plane of one value has no detail, and is left out.

    Args:
        image: (b, c, H, W), sides of at least 8 px.
        ratio: side of a pixel, in the pixels that frequencies are counted in: of LRMS its PAN-to-MS scale gives cycles
            per PAN pixel, up to .5 / ratio.
    Returns: at most 32 rings, fewer for small images; all powers are NaN if every plane is constant.
    Raises: ValueError on a smaller image, a ratio below 1, and a plane that is not finite.
    """
    sides = image.shape[-2:]
    if min(sides) < _SMALLEST or ratio < 1:
        raise ValueError(
            f"image {tuple(image.shape)} and ratio {ratio}: sides of {_SMALLEST} px or more are needed, and a ratio of "
            "at least 1"
        )
    rows, columns = (torch.hann_window(side, dtype=torch.float64, device=image.device) for side in sides)
    window = rows[:, None] * columns
    values = image.double()
    detail = (values - (values * window).sum((-2, -1), keepdim=True) / window.sum()) * window
    power = torch.fft.fft2(detail).abs().square()
    variance = power.mean((-2, -1), keepdim=True) / window.square().sum()
    if not variance.isfinite().all():
        raise ValueError("a plane of the image has values that are not finite; leave it out")
    relative = power / power.mean((-2, -1), keepdim=True)
    relative = relative.where(variance > _FLAT, torch.nan).nanmean((0, 1)).cpu().numpy().ravel()
    radius = np.hypot(*np.meshgrid(*map(np.fft.fftfreq, sides), indexing="ij")).ravel()
    rings = min(_RINGS, min(sides) // 2)
    # what lies in the corners, beyond Nyquist, and the mean are in no ring
    inside = (radius > 0) & (radius <= 0.5)
    # a ring has its outer edge, which rounding shall not move
    ring = np.ceil((2 * rings * radius[inside]).round(9)).astype(int) - 1
    count = np.bincount(ring, minlength=rings)
    frequency, power_in = (
        np.bincount(ring, each[inside], minlength=rings) / count for each in (radius, relative)
    )
    return Spectrum(frequency / ratio, power_in * ratio**2)
