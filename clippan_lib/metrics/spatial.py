"""Is the fused image as sharp as PAN? D_rho, D_s^R and D_s^F, as numbers and as maps.

None of them needs a reference. All compare structures with PAN's: D_rho pixel by pixel in small windows, D_s^R by one
regression over the image, D_s^F by the details that the sensor's MTF takes away. All are differentiable.
"""

from collections.abc import Sequence
from math import ceil

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy.signal import firwin
from torch import Tensor

from clippan_lib.metrics.reference import (
    AnyImage,
    block_covariance,
    block_moments,
    check_images,
    quotient_or_one,
)
from clippan_lib.mtf import decimate, filter_image, mtf_kernel
from clippan_lib.shapes import LRMS, PAN, Image, Scores, check_pair

BLOCK = 32


def box_mean(image: Image, side: int) -> Image:
    """Mean over a square window of every pixel, zeros beyond the border.

    Of an even side the window has one pixel more after its pixel than before, as the public code's.

    Args:
        image: (b, c, H, W).
        side: side of the window, px.
    Returns: (b, c, H, W).
    """
    before, after = (side - 1) // 2, side // 2
    padded = F.pad(image, (before, after, before, after))
    # one axis after the other: `side` sums for each pixel twice, not `side` squared
    return F.avg_pool2d(F.avg_pool2d(padded, (side, 1), stride=1), (1, side), stride=1)


def local_correlation(first: Image, second: AnyImage, half: int) -> Image:
    """Correlation in a window of side 2*half about every pixel, as the evaluation tool of Scarpa and Ciotola has it.

    Each pixel is centred by the mean of its own window, and the windows' moments are taken of these centred pixels.

    Args:
        first: (b, c, H, W).
        second: the same shape, or one band that is compared with every band of `first`.
        half: half the side of the window, at least 1.
    Returns: (b, c, H, W), in [-1, 1] up to rounding; 0, with gradient 0, where either image is flat.
    Raises: ValueError on a window without pixels, or images that do not fit.
    """
    if half < 1:
        raise ValueError(f"half a window of {half} px has no pixels; give 1 or more")
    if first.shape != second.shape and second.shape != (first.shape[0], 1, *first.shape[-2:]):
        raise ValueError(
            f"images {tuple(first.shape)} and {tuple(second.shape)} must be of one shape, or the second of one band"
        )
    x, y = _centred(first, half), _centred(second, half)
    energy = box_mean(x.square(), 2 * half) * box_mean(y.square(), 2 * half)
    varies = energy > 0
    return (box_mean(x * y, 2 * half) / energy.where(varies, 1.0).sqrt()).where(varies, 0.0)


def _centred(image: Image, half: int) -> Image:
    mean = box_mean(image, 2 * half)
    apart = image - mean
    # what rounding leaves of a flat window is no structure
    return apart.where(apart.abs() > 4 * torch.finfo(image.dtype).eps * mean.abs(), 0.0)


def d_rho_map(hrms: Image, pan: AnyImage, ratio: int) -> Float[Tensor, "b 1 H W"]:
    """How little each pixel's surroundings follow PAN: 1 - local correlation, mean over bands.

    Args:
        hrms: (b, c, H, W), any scale.
        pan: (b, 1, H, W), any scale.
        ratio: PAN-to-MS scale; the window has this side (one more if odd).
    Returns: (b, 1, H, W), in [0, 2]; 0 follows PAN, 1 where either is flat.
    Raises: ValueError on sizes that differ, or values that are not finite.
    """
    _check(hrms, pan)
    rho = local_correlation(hrms, pan, ceil(ratio / 2)).clamp(-1, 1)
    return (1 - rho).mean(1, keepdim=True)


def d_rho(hrms: Image, pan: AnyImage, ratio: int) -> Scores:
    """Spatial distortion by local correlation with PAN; 0 is best, lower is better.

    Scarpa and Ciotola 2022 [scarpa2022full]: mean over pixels and bands of 1 - rho, rho clipped to [-1, 1]. Their
    NumPy code takes negative covariances for 0; their PyTorch code and ours do not. Other toolboxes use larger windows:
    values of another window are not comparable.

    Args:
        hrms: (b, c, H, W), any scale.
        pan: (b, 1, H, W), any scale.
        ratio: PAN-to-MS scale; windows of 4 px at ratio 4.
    Returns: (b,), in [0, 2].
    Raises: ValueError on sizes that differ, or values that are not finite.

    >>> pan = torch.rand(1, 1, 16, 16)
    >>> [round(d_rho(image, pan, ratio=4).item(), 3) for image in (0.5 * pan, -pan)]
    [0.0, 2.0]
    """
    return d_rho_map(hrms, pan, ratio).mean((1, 2, 3))


def _check(hrms: AnyImage, pan: AnyImage) -> None:
    if (hrms.shape[0], 1, *hrms.shape[-2:]) != pan.shape:
        raise ValueError(f"pan {tuple(pan.shape)} must be one band of hrms' size {tuple(hrms.shape)}")
    check_images(hrms=hrms)
    check_images(pan=pan)


def _residual(hrms: Image, pan: PAN) -> PAN:
    """PAN minus its regression on the bands, without intercept."""
    bands, target = hrms.flatten(2), pan.flatten(2)
    # of float32 images the sums of products need more digits than they have
    gram, product = (bands.double() @ other.double().mT for other in (bands, target))
    weights = torch.linalg.pinv(gram, hermitian=True) @ product
    return (target - (weights.mT @ bands.double()).to(target)).view_as(pan)


def d_s_r(hrms: Image, pan: AnyImage) -> Scores:
    """Spatial distortion by regression, 1 - R^2 of PAN on the fused bands; 0 is best, lower is better.

    Alparone, Garzelli and Vivone 2018 [alparone2018spatial]: R^2 = 1 - var(P - F a) / var(P), a by least squares over
    the image, without intercept as in the public MATLAB and Python code.

    Args:
        hrms: (b, c, H, W), any scale.
        pan: (b, 1, H, W), any scale.
    Returns: (b,), 0 or more, hardly ever over 1; of a PAN of one value 0 where the bands explain it, else 1.
    Raises: ValueError on sizes that differ, or values that are not finite.
    """
    _check(hrms, pan)
    apart, spread = (image.var((1, 2, 3)) for image in (_residual(hrms, pan), pan))
    rounding = torch.finfo(pan.dtype).eps * pan.mean((1, 2, 3))
    varies = spread > (4 * rounding).square()
    # the regression rounds more than PAN does
    left = (apart > (1000 * rounding).square()).to(apart)
    return torch.where(varies, apart / spread.where(varies, 1.0), left)


def d_s_r_map(hrms: Image, pan: AnyImage, block: int = BLOCK) -> Float[Tensor, "b 1 H W"]:
    """`d_s_r` in a window about every pixel, with the weights of the whole image.

    As the public MATLAB map: the window is odd, one pixel less than an even `block`, and values are clipped to [0, 1].
    Borders are mirrored there; here windows are cut at the border.

    Args:
        hrms, pan: as in `d_s_r`.
        block: side of the window, px.
    Returns: (b, 1, H, W), in [0, 1]; 0 where PAN is flat and explained.
    Raises: ValueError where `d_s_r` does.
    """
    _check(hrms, pan)
    side = block - 1 + block % 2
    apart, spread = (_variance(image, side) for image in (_residual(hrms, pan), pan))
    unexplained = torch.where(apart > 0, 1.0, 0.0).to(apart)
    return torch.where(spread > 0, apart / spread.where(spread > 0, 1.0), unexplained).clamp(0, 1)


def _variance(image: PAN, side: int) -> PAN:
    inside = box_mean(torch.ones_like(image), side)
    mean, square = box_mean(image, side) / inside, box_mean(image.square(), side) / inside
    variance = square - mean.square()
    return variance.where(variance > 4 * torch.finfo(image.dtype).eps * square, 0.0)


def ideal_lowpass(image: Image, ratio: int) -> Image:
    """The 23-tap low-pass of the public FQNR code: a Hamming window, cut at 1/ratio of the Nyquist frequency.

    Args:
        image: (b, c, H, W).
        ratio: PAN-to-MS scale.
    Returns: (b, c, H, W); border pixels are repeated, where the public code joins opposite sides.
    """
    taps = firwin(23, 1 / ratio)
    return filter_image(image, torch.from_numpy(np.outer(taps, taps))[None])


def d_s_f(
    hrms: Image,
    lrms: LRMS,
    pan: AnyImage,
    gnyq: Sequence[float],
    gnyq_pan: float,
    ratio: int,
    block: int = BLOCK,
) -> Scores:
    """Spatial distortion of details (F-QNR); 0 is best, lower is better.

    Arienzo et al. 2022 [arienzo2022full]: mean over bands of
    |Q(F_b - h_b*F_b, P - L*P) - Q(M_b - h_b*M_b, P_l - L*P_l)|, where P_l is PAN degraded with its own MTF, L the
    `ideal_lowpass` and h_b the band's MTF. Q is the mean over blocks of the universal quality index, negative blocks
    counted as 0. Details have mean 0, so the factor of means is left out and the index is 2 s_xy / (s_x^2 + s_y^2).
    The public code calls a function for it that could not be had: its blocks may overlap, ours are disjoint.

    Args:
        hrms: (b, c, H, W), sides multiples of `block`.
        lrms: (b, c, H/ratio, W/ratio), in the units of hrms.
        pan: (b, 1, H, W), in the units of hrms.
        gnyq: MTF gain at Nyquist, one per band.
        gnyq_pan: the same of PAN.
        ratio: PAN-to-MS scale.
        block: side of a block of PAN; of LRMS it is block // ratio, and what is beyond its last block is left out.
    Returns: (b,), in [0, 1].
    Raises: ValueError on sizes that do not fit or are no multiples, or values that are not finite.
    """
    _check(hrms, pan)
    low = low_details(lrms, pan, gnyq, gnyq_pan, ratio, block)
    details = hrms - filter_image(hrms, mtf_kernel(tuple(gnyq), ratio))
    return (detail_quality(details, pan - ideal_lowpass(pan, ratio), block) - low).abs().mean(1)


def d_s_f_map(
    hrms: Image,
    lrms: LRMS,
    pan: AnyImage,
    gnyq: Sequence[float],
    gnyq_pan: float,
    ratio: int,
    block: int = BLOCK,
) -> Float[Tensor, "b 1 rows columns"]:
    """How far the details of each block moved away from PAN's: mean over bands of |Q - Q at the scale of LRMS|.

    `d_s_f` compares the means over blocks, so it is at most the mean of this map.

    Args:
        hrms, lrms, pan, gnyq, gnyq_pan, ratio, block: as in `d_s_f`; `block` is a multiple of `ratio`.
    Returns: (b, 1, H/block, W/block), in [0, 1].
    Raises: ValueError where `d_s_f` does, or on another block.
    """
    _check(hrms, pan)
    if block % ratio:
        raise ValueError(f"block {block} is no multiple of ratio {ratio}: blocks of LRMS would lie elsewhere")
    low = _block_quality(*_low_pair(lrms, pan, gnyq, gnyq_pan, ratio), block // ratio)
    details = hrms - filter_image(hrms, mtf_kernel(tuple(gnyq), ratio))
    high = _block_quality(details, pan - ideal_lowpass(pan, ratio), block)
    return (high - low).abs().mean(-1).view(len(hrms), 1, hrms.shape[-2] // block, hrms.shape[-1] // block)


def low_details(
    lrms: LRMS, pan: PAN, gnyq: Sequence[float], gnyq_pan: float, ratio: int, block: int = BLOCK
) -> Float[Tensor, "b c"]:
    """What `d_s_f` compares with: `detail_quality` of LRMS and of PAN degraded with its own MTF.

    Args:
        lrms, pan, gnyq, gnyq_pan, ratio, block: as in `d_s_f`.
    Returns: (b, c), in [0, 1].
    Raises: ValueError on sizes that do not fit.
    """
    side = block // ratio
    height, width = (length - length % side for length in lrms.shape[-2:])
    pair = _low_pair(lrms, pan, gnyq, gnyq_pan, ratio)
    details, pan_details = (image[..., :height, :width] for image in pair)
    return detail_quality(details, pan_details, side)


def _low_pair(
    lrms: LRMS, pan: PAN, gnyq: Sequence[float], gnyq_pan: float, ratio: int
) -> tuple[LRMS, AnyImage]:
    """Details of LRMS, and of PAN degraded with its own MTF."""
    check_pair(lrms, pan, ratio)
    seen = decimate(filter_image(pan, mtf_kernel((gnyq_pan,), ratio)), ratio)
    return lrms - filter_image(lrms, mtf_kernel(tuple(gnyq), ratio)), seen - ideal_lowpass(seen, ratio)


def detail_quality(details: Image, pan_details: AnyImage, block: int) -> Float[Tensor, "b c"]:
    """Quality index of details with PAN's, 2 s_xy / (s_x^2 + s_y^2), mean over blocks; negative blocks count as 0.

    Args:
        details: (b, c, H, W), sides multiples of `block`.
        pan_details: (b, 1, H, W), in the units of `details`.
        block: side of a block, at least 2.
    Returns: (b, c), in [0, 1]; 1 for a block where both are flat.
    Raises: ValueError on sides that are no multiples of `block`.
    """
    return _block_quality(details, pan_details, block).mean(1)


def _block_quality(details: Image, pan_details: AnyImage, block: int) -> Float[Tensor, "b n c"]:
    x, y = block_moments(details, block), block_moments(pan_details, block)
    spread = x.variance.unsqueeze(-1) + y.variance.unsqueeze(-2)
    return quotient_or_one(2 * block_covariance(x, y), spread).clamp(min=0).squeeze(-1)
