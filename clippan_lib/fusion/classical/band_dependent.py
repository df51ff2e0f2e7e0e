"""Band-dependent spatial detail: the details are the combination of bands and PAN that is best when degraded."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from clippan_lib.fusion.classical.least_squares import (
    Gamma,
    blocks,
    least_squares,
    nonnegative,
    normal_equations,
)
from clippan_lib.mtf import degrade, filter_image, imresize, mtf_kernel, upsample
from clippan_lib.shapes import HRMS, LRMS, PAN, Image, check_pair


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
        "bkipjq,bijkm->bmipjq", blocks(torch.cat([lms, pan], 1), rows, columns), gamma.to(lms)
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
    return _inject(lms, pan, least_squares(blocks(x, *grid), blocks(y, *grid)))


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
    gram, cross, scale = normal_equations(blocks(x, 1, 1), blocks(y, 1, 1))
    gamma = sign * nonnegative(gram * sign * sign.mT, sign * cross) / scale
    return _inject(lms, pan, gamma)
