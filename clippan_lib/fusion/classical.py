"""Fusion without training: interpolation, component substitution, BDSD and multiresolution analysis.

Each method equals the public MATLAB toolbox (Vivone et al. 2015, 2021) to its rounding. None depends on the
unit of its input: digital numbers and [0, 1] give the same image. Singular systems (constant images, repeated
bands) get the least solution, so every output is finite. Least squares are solved in float64.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from clippan_lib.mtf import degrade, filter_image, imresize, mtf_kernel, separable, upsample
from clippan_lib.shapes import HRMS, LRMS, PAN, Image, check_pair

Blocks = Float[Tensor, "b _ rows p columns q"]
Gamma = Float64[Tensor, "b rows columns k m"]
Gram = Float64[Tensor, "b rows columns k k"]
PerBand = Float[Tensor, "b c 1 1"]

# relative to unit diagonals: far below what real images resolve, far above float64 rounding
_TINY = 1e-13


def _mean(image: Image) -> PerBand:
    return image.mean((-2, -1), keepdim=True)


def _centred(image: Image) -> Image:
    """The image less its mean, per band; exactly 0 where a band is constant to its rounding."""
    centred = image - _mean(image)
    # the published interpolation taps, rounded to twelve digits, turn a constant into one to 4e-10
    rounding = max(32 * torch.finfo(image.dtype).eps, 1e-8)
    flat = _mean(centred.square()) <= rounding**2 * _mean(image.square())
    return centred.masked_fill(flat, 0.0)


def _gain(image: Image, predictor: Float[Tensor, "b _ H W"]) -> PerBand:
    """Slope of `image` on `predictor`, per band; 0 where the predictor is constant."""
    centred = _centred(predictor)
    variance = _mean(centred.square())
    return _mean((image - _mean(image)) * centred) / variance.masked_fill(variance == 0, torch.inf)


def exp(lrms: LRMS, pan: PAN, ratio: int) -> HRMS:
    """EXP: the LRMS interpolated to the size of PAN (Aiazzi et al. 2002); PAN is not used.

    Args:
        lrms: (b, c, h, w), any linear unit.
        pan: (b, 1, ratio*h, ratio*w).
        ratio: PAN-to-MS scale, at least 2.
    Returns: (b, c, ratio*h, ratio*w), in the unit of `lrms`.
    Raises: ValueError if the pair does not fit `ratio`.
    """
    check_pair(lrms, pan, ratio)
    return upsample(lrms, ratio)


@lru_cache(maxsize=32)
def _wavelet_lowpass(length: int, ratio: int) -> np.ndarray:
    """(length/ratio, length) weights of the toolbox's LPfilterPlusDec along one axis.

    Its wavelet code filters with [1 4 6 4 1]/16 without holes, once per level on the mirrored signal going
    down and once per level on what that left coming up.
    """
    levels = int(np.ceil(np.log2(ratio)))
    matrix = np.eye(length)
    for margin in (4,) * levels + (0,) * levels:
        padded = np.pad(matrix, ((margin, margin), (0, 0)), mode="symmetric")
        rows = len(padded) - 4
        matrix = sum(tap * padded[start : start + rows] for start, tap in enumerate((1, 4, 6, 4, 1))) / 16
    return matrix[ratio // 2 :: ratio]


def _normal_equations(x: Blocks, y: Blocks) -> tuple[Gram, Gamma, Float64[Tensor, "b rows columns k 1"]]:
    """Least squares of y on x per block, columns scaled to unit length: matrix, right side, the scale."""
    x, y = x.double(), y.double()
    length = x.square().sum((3, 5), keepdim=True).sqrt()
    scale = torch.where(length > 0, length, 1.0)
    x = x / scale
    gram = torch.einsum("bkipjq,blipjq->bijkl", x, x)
    cross = torch.einsum("bkipjq,bmipjq->bijkm", x, y)
    ridge = _TINY * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return gram + ridge, cross, scale.permute(0, 2, 4, 1, 3, 5).flatten(-2)


def _least_squares(x: Blocks, y: Blocks) -> Gamma:
    gram, cross, scale = _normal_equations(x, y)
    return torch.linalg.solve(gram, cross) / scale


def _blocks(image: Image, rows: int, columns: int) -> Blocks:
    b, c, height, width = image.shape
    return image.reshape(b, c, rows, height // rows, columns, width // columns)


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
    lms0, lrms0, pan0 = _centred(lms), _centred(lrms), _centred(pan)
    pan_lr = separable(pan0, *(_wavelet_lowpass(side, ratio) for side in pan.shape[-2:]))
    bands = torch.cat([lrms0, torch.ones_like(lrms0[:, :1])], 1)
    weights = _least_squares(_blocks(bands, 1, 1), _blocks(pan_lr, 1, 1))[:, 0, 0, :-1, :, None]
    intensity = (weights.to(lms) * lms0).sum(1, keepdim=True)
    return lms + _gain(lms, intensity) * (pan0 - intensity)


def _bdsd_pair(
    lms: Image, pan: PAN, ratio: int, gnyq: Sequence[float], gnyq_pan: float
) -> tuple[Float[Tensor, "b _ h w"], LRMS]:
    """Blurred bands and PAN at low resolution, and the detail of the bands that they are to explain."""
    lrms = imresize(lms, (lms.shape[-2] // ratio, lms.shape[-1] // ratio))
    blurred = filter_image(lrms, mtf_kernel(gnyq, ratio))
    return torch.cat([blurred, degrade(pan, [gnyq_pan], ratio)], 1), lrms - blurred


def _inject(lms: Image, pan: PAN, gamma: Gamma) -> HRMS:
    rows, columns = gamma.shape[1:3]
    details = torch.einsum(
        "bkipjq,bijkm->bmipjq", _blocks(torch.cat([lms, pan], 1), rows, columns), gamma.to(lms)
    )
    return lms + details.reshape(lms.shape)


def bdsd(
    lrms: LRMS, pan: PAN, ratio: int, gnyq: Sequence[float], gnyq_pan: float, block: int | None = None
) -> HRMS:
    """BDSD: the details are the combination of bands and PAN that is best at low resolution, per block.

    Garzelli, Nencini & Capobianco 2008, as in the toolbox: the low resolution is the bicubic
    reduction of the EXP image.

    Args:
        lrms: (b, c, h, w), any linear unit.
        pan: (b, 1, ratio*h, ratio*w), the same unit.
        ratio: PAN-to-MS scale, at least 2.
        gnyq: MTF gain at Nyquist, one per band, in (0, 1).
        gnyq_pan: the same of PAN.
        block: side of the blocks in PAN pixels, a multiple of `ratio` that divides both sides; None is one
            block, the whole image.
    Returns: (b, c, ratio*h, ratio*w), in the unit of `lrms`, not clipped.
    Raises: ValueError if the pair does not fit `ratio`, or the block does not fit the pair.
    """
    check_pair(lrms, pan, ratio)
    height, width = pan.shape[-2:]
    if block is not None and (block < ratio or block % ratio or height % block or width % block):
        raise ValueError(
            f"block {block} must be a multiple of ratio {ratio} and divide pan's {height} x {width}"
        )
    grid = (1, 1) if block is None else (height // block, width // block)
    lms = upsample(lrms, ratio)
    x, y = _bdsd_pair(lms, pan, ratio, gnyq, gnyq_pan)
    return _inject(lms, pan, _least_squares(_blocks(x, *grid), _blocks(y, *grid)))


def _backtrack(
    x: Float64[Tensor, "*n k"], solution: Float64[Tensor, "*n k"], passive: Bool[Tensor, "*n k"]
) -> tuple[Float64[Tensor, "*n k"], Bool[Tensor, "*n k"], Bool[Tensor, "*n 1"]]:
    """Move x towards the solution until a passive coordinate meets 0, which then leaves the set."""
    blocked = passive & (solution <= 0)
    # the floor makes 0/0, a coordinate that starts and ends on 0, a step of 0
    reach = torch.where(blocked, x / (x - solution).clamp(min=torch.finfo(x.dtype).tiny), torch.inf)
    step = reach.amin(-1, keepdim=True).clamp(max=1.0)
    passive = passive & ~(blocked & (reach <= step))
    return torch.where(passive, x + step * (solution - x), 0.0), passive, ~blocked.any(-1, keepdim=True)


def _nonnegative(
    gram: Float64[Tensor, "*n k k"], cross: Float64[Tensor, "*n k m"]
) -> Float64[Tensor, "*n k m"]:
    """argmin over x >= 0 of x'gram x/2 - x'cross: the active set method of Lawson & Hanson 1974, ch. 23.

    All problems advance together, each with its own set; a finished one stands still.
    """
    gram, target = gram.unsqueeze(-3), cross.mT
    x, passive = torch.zeros_like(target), torch.zeros_like(target, dtype=torch.bool)
    tolerance = _TINY * target.abs().amax(-1, keepdim=True)
    for _ in range(10 * target.shape[-1]):
        both = passive.unsqueeze(-1) & passive.unsqueeze(-2)
        system = torch.where(both, gram, 0.0) + torch.diag_embed((~passive).to(gram))
        solution = torch.linalg.solve(system, torch.where(passive, target, 0.0))
        x, passive, reached = _backtrack(x, solution, passive)
        gradient = target - (gram @ x.unsqueeze(-1)).squeeze(-1)
        best, index = gradient.masked_fill(passive, -torch.inf).max(-1, keepdim=True)
        grow = reached & (best > tolerance)
        passive = passive | torch.zeros_like(passive).scatter(-1, index, grow)
        if not (grow | ~reached).any():
            break
    return x.mT


def bdsd_pc(lrms: LRMS, pan: PAN, ratio: int, gnyq: Sequence[float], gnyq_pan: float) -> HRMS:
    """BDSD-PC: global BDSD with physical signs, PAN added and bands taken away (Vivone 2019).

    Args:
        lrms: (b, c, h, w), any linear unit.
        pan: (b, 1, ratio*h, ratio*w), the same unit.
        ratio: PAN-to-MS scale, at least 2.
        gnyq: MTF gain at Nyquist, one per band, in (0, 1).
        gnyq_pan: the same of PAN.
    Returns: (b, c, ratio*h, ratio*w), in the unit of `lrms`, not clipped.
    Raises: ValueError if the pair does not fit `ratio`.
    """
    check_pair(lrms, pan, ratio)
    lms = upsample(lrms, ratio)
    x, y = _bdsd_pair(lms, pan, ratio, gnyq, gnyq_pan)
    sign = torch.ones(x.shape[1], 1, dtype=torch.float64, device=x.device)
    sign[:-1] = -1
    gram, cross, scale = _normal_equations(_blocks(x, 1, 1), _blocks(y, 1, 1))
    gamma = sign * _nonnegative(gram * sign * sign.mT, sign * cross) / scale
    return _inject(lms, pan, gamma)


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
    gain = _gain(lms, pan_low)
    matched_low = gain * (pan_low - _mean(pan)) + _mean(lms)
    return lms * (1 + gain * (pan - pan_low) / matched_low.masked_fill(matched_low == 0, torch.inf))
