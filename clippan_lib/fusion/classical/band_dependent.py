"""Band-dependent spatial detail: the details are the combination of bands and PAN that is best when degraded."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from clippan_lib.fusion.classical.least_squares import (
    Gamma,
    least_squares,
    nonnegative,
    normal_equations,
)
from clippan_lib.fusion.classical.stages import Images, Stages, staged
from clippan_lib.fusion.classical.statistics import Spread
from clippan_lib.fusion.reach import of_lms
from clippan_lib.mtf import Border, degrade, filter_image, imresize, mtf_kernel, upsample
from clippan_lib.shapes import HRMS, LRMS, PAN, Image, check_pair


def _reach(ratio: int) -> int:
    """The bands' kernels, of 41 LRMS pixels, on what `imresize` makes of the EXP image."""
    return 20 + of_lms(ratio, ratio + ratio // 2)


def _bdsd_pair(
    lms: Image, pan: PAN, ratio: int, gnyq: Sequence[float], gnyq_pan: float
) -> tuple[Float[Tensor, "b _ h w"], LRMS]:
    """Blurred bands and PAN at low resolution, and the detail of the bands that they are to explain."""
    lrms = imresize(lms, (lms.shape[-2] // ratio, lms.shape[-1] // ratio))
    blurred = filter_image(lrms, mtf_kernel(gnyq, ratio))
    return torch.cat([blurred, degrade(pan, [gnyq_pan], ratio)], 1), lrms - blurred


def _blocks(image: Images, rows: int, columns: int) -> Float[Tensor, "_ _ p q"]:
    """Cut into rows x columns blocks, each an image of the batch."""
    b, c, height, width = image.shape
    parts = image.reshape(b, c, rows, height // rows, columns, width // columns)
    return parts.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def _inject(lms: Image, pan: PAN, gamma: Gamma, rows: int = 1, columns: int = 1) -> HRMS:
    weights = gamma.to(lms).unflatten(0, (len(lms), rows, columns))
    parts = torch.cat([lms, pan], 1).unflatten(2, (rows, -1)).unflatten(4, (columns, -1))
    return lms + torch.einsum("bkipjq,bijkm->bmipjq", parts, weights).reshape(lms.shape)


@staged(_reach)
def bdsd(
    lrms: LRMS,
    pan: PAN,
    ratio: int,
    gnyq: Sequence[float],
    gnyq_pan: float,
    block: int | None = None,
    border: Border = "replicate",
) -> Stages:
    """BDSD: the details are the combination of bands and PAN that is best at low resolution, per block.

    Garzelli, Nencini and Capobianco 2008 [garzelli2008optimal], as in the toolbox: the low resolution is the
    bicubic reduction of the EXP image.

    Args:
        lrms: (b, c, h, w), any linear unit.
        pan: (b, 1, ratio*h, ratio*w), the same unit.
        ratio: PAN-to-MS scale, at least 2.
        gnyq: MTF gain at Nyquist, one per band, in (0, 1).
        gnyq_pan: the same of PAN.
        block: side of the blocks in PAN pixels, a multiple of `ratio` that divides both sides; None is one
            block, the whole image, the only choice for a scene in tiles.
        border: how EXP extends the image at its border, as in `mtf.upsample`.
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
    lms = upsample(lrms, ratio, border)
    x, y = _bdsd_pair(lms, pan, ratio, gnyq, gnyq_pan)
    if block is None:
        (spread,) = yield (Spread(x=x, y=y),)
    else:
        spread = Spread(x=_blocks(x, *grid), y=_blocks(y, *grid)).tally()
    gamma = least_squares(spread.products("x", "x"), spread.products("x", "y"))
    return _inject(lms, pan, gamma, *grid)


@staged(_reach)
def bdsd_pc(
    lrms: LRMS, pan: PAN, ratio: int, gnyq: Sequence[float], gnyq_pan: float, border: Border = "replicate"
) -> Stages:
    """BDSD-PC: global BDSD with physical signs, PAN added and bands taken away.

    Vivone 2019 [vivone2019robust].

    Args:
        lrms: (b, c, h, w), any linear unit.
        pan: (b, 1, ratio*h, ratio*w), the same unit.
        ratio: PAN-to-MS scale, at least 2.
        gnyq: MTF gain at Nyquist, one per band, in (0, 1).
        gnyq_pan: the same of PAN.
        border: how EXP extends the image at its border, as in `mtf.upsample`.
    Returns: (b, c, ratio*h, ratio*w), in the unit of `lrms`, not clipped.
    Raises: ValueError if the pair does not fit `ratio`.
    """
    check_pair(lrms, pan, ratio)
    lms = upsample(lrms, ratio, border)
    x, y = _bdsd_pair(lms, pan, ratio, gnyq, gnyq_pan)
    sign = torch.ones(x.shape[1], 1, dtype=torch.float64, device=x.device)
    sign[:-1] = -1
    (spread,) = yield (Spread(x=x, y=y),)
    gram, cross, scale = normal_equations(spread.products("x", "x"), spread.products("x", "y"))
    gamma = sign * nonnegative(gram * sign * sign.mT, sign * cross) / scale
    return _inject(lms, pan, gamma)
