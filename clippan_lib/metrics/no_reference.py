"""Scores without a reference, at full resolution: QNR, HQNR, their parts, and the block index Q below them.

Conventions are those of the public MATLAB toolbox (DLPan-Toolbox; Vivone et al. 2021 [vivone2021new]): disjoint
blocks of 32, all exponents 1, and images at the scale of PAN throughout (`lms` is EXP of lrms, `pan_lp` is
`pan_lowpass`). Both repeat border pixels, where the toolbox joins opposite sides: that is `border="circular"`.
Everything is differentiable, except where `dn_max` asks for the toolbox's rounding.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from clippan_lib.metrics.reference import (
    AnyImage,
    BlockMoments,
    block_covariance,
    block_moments,
    check_blocks,
    check_images,
    check_rounding,
    q2n,
    quotient_or_one,
)
from clippan_lib.mtf import Border, filter_image, imresize, mtf_kernel, upsample
from clippan_lib.shapes import PAN, Image, Scores

BLOCK = 32


def pan_lowpass(pan: PAN, ratio: int, border: Border = "replicate") -> PAN:
    """PAN with the detail of `lms`: bicubic shrinking by `ratio`, then EXP; the toolbox's P_f.

    Args:
        pan: (b, 1, H, W), both sides multiples of `ratio`.
        ratio: PAN-to-MS scale.
        border: how EXP extends the image at its border, as in `mtf.upsample`.
    Returns: (b, 1, H, W).
    Raises: ValueError if a side is no multiple of `ratio`.
    """
    height, width = pan.shape[-2:]
    if height % ratio or width % ratio:
        raise ValueError(f"pan sides {(height, width)} are no multiples of ratio {ratio}; crop both images")
    return upsample(imresize(pan, (height // ratio, width // ratio)), ratio, border)


def uiqi(first: Image, second: AnyImage | None = None, block: int = BLOCK) -> Float[Tensor, "b c d"]:
    """Universal quality index Q of every band of one image with every band of another, mean over blocks.

    Wang and Bovik 2002 [wang2002universal]:
    Q = 2 m_x m_y/(m_x^2+m_y^2) * 2 s_xy/(s_x^2+s_y^2), each factor 1 where it is 0/0
    (the toolbox gives NaN there). For losses too: values are not checked, so a GPU is not waited for.

    Args:
        first: (b, c, H, W), both sides multiples of `block`.
        second: (b, d, H, W) at the same scale of values; None pairs the bands of `first` among themselves.
        block: side of a block, at least 2.
    Returns: (b, c, d), in [-1, 1].
    Raises: ValueError on sides that differ or are no multiples of `block`.
    """
    if second is not None and (first.shape[0], *first.shape[-2:]) != (second.shape[0], *second.shape[-2:]):
        raise ValueError(f"images {tuple(first.shape)} and {tuple(second.shape)} differ in batch or sides")
    x = block_moments(first, block)
    return _pairwise(x, x if second is None else block_moments(second, block))


def _pairwise(x: BlockMoments, y: BlockMoments) -> Float[Tensor, "b c d"]:
    mean_x, mean_y = x.mean.unsqueeze(-1), y.mean.unsqueeze(-2)
    luminance = quotient_or_one(2 * mean_x * mean_y, mean_x.square() + mean_y.square())
    spread = x.variance.unsqueeze(-1) + y.variance.unsqueeze(-2)
    return (luminance * quotient_or_one(2 * block_covariance(x, y), spread)).mean(1)


def d_lambda(hrms: Image, lms: AnyImage, block: int = BLOCK) -> Scores:
    """Spectral distortion: how far Q between bands moved by fusion; 0 is best, lower is better.

    Alparone et al. 2008 [alparone2008multispectral]: mean over band pairs of |Q(F_i, F_j) - Q(M_i, M_j)|. As in
    the toolbox M is EXP of lrms, where the paper takes lrms itself.

    Args:
        hrms, lms: (b, c, H, W), c at least 2, sides multiples of `block`.
        block: side of a block.
    Returns: (b,), in [0, 2], hardly ever over 1.
    Raises: ValueError on unequal shapes, values that are not finite, sides that are no multiples, one band.
    """
    check_images(hrms=hrms, lms=lms)
    return _pair_change(uiqi(hrms, block=block), uiqi(lms, block=block))


def _pair_change(fused: Float[Tensor, "b c c"], low: Float[Tensor, "b c c"]) -> Scores:
    bands = fused.shape[-1]
    if bands < 2:
        raise ValueError(f"D_lambda compares pairs of bands, and the image has {bands}; give two or more")
    i, j = torch.triu_indices(bands, bands, 1, device=fused.device)
    return (fused - low).abs()[:, i, j].mean(-1)


def d_s(hrms: Image, lms: AnyImage, pan: AnyImage, pan_lp: AnyImage, block: int = BLOCK) -> Scores:
    """Spatial distortion: how far Q between bands and PAN moved by fusion; 0 is best, lower is better.

    Alparone et al. 2008 [alparone2008multispectral]: mean over bands of |Q(F_b, P) - Q(M_b, P_f)|, with M and
    P_f at the scale of PAN.

    Args:
        hrms, lms: (b, c, H, W), sides multiples of `block`.
        pan: (b, 1, H, W), in the units of hrms.
        pan_lp: (b, 1, H, W), `pan_lowpass` of pan.
        block: side of a block.
    Returns: (b,), in [0, 2], hardly ever over 1.
    Raises: ValueError on unequal shapes, values that are not finite, or sides that are no multiples.
    """
    _check_full(hrms, lms, pan, pan_lp)
    return (uiqi(hrms, pan, block) - uiqi(lms, pan_lp, block)).abs().mean((-2, -1))


def _check_full(hrms: AnyImage, lms: AnyImage, pan: AnyImage, pan_lp: AnyImage) -> None:
    check_images(hrms=hrms, lms=lms)
    check_images(pan=pan, pan_lp=pan_lp)
    if (hrms.shape[0], 1, *hrms.shape[-2:]) != pan.shape:
        raise ValueError(f"pan {tuple(pan.shape)} must be one band of hrms' size {tuple(hrms.shape)}")


def distortions(
    hrms: Image, lms: AnyImage, pan: AnyImage, pan_lp: AnyImage, block: int = BLOCK
) -> tuple[Scores, Scores]:
    """`d_lambda` and `d_s` of the same images, with the statistics of each image computed once.

    Args:
        hrms, lms, pan, pan_lp, block: as in `d_s`; c at least 2.
    Returns: D_lambda (b,) and D_s (b,).
    Raises: ValueError where `d_lambda` or `d_s` does.
    """
    _check_full(hrms, lms, pan, pan_lp)
    return changes(quality_matrix(hrms, pan, block), quality_matrix(lms, pan_lp, block))


def quality_matrix(image: Image, pan: AnyImage, block: int = BLOCK) -> Float[Tensor, "b d d"]:
    """`uiqi` of all pairs of bands, with PAN as one more band: both indices read the same matrix.

    Args:
        image: (b, c, H, W), sides multiples of `block`.
        pan: (b, 1, H, W), in the units of `image`.
        block: side of a block.
    Returns: (b, c+1, c+1), PAN last.
    """
    return uiqi(torch.cat([image, pan], 1), block=block)


def changes(fused: Float[Tensor, "b d d"], low: Float[Tensor, "b d d"]) -> tuple[Scores, Scores]:
    """D_lambda and D_s from the `quality_matrix` of HRMS with PAN and that of `lms` with `pan_lp`.

    Args:
        fused, low: (b, c+1, c+1), c at least 2.
    Returns: D_lambda (b,) and D_s (b,).
    Raises: ValueError on one band.
    """
    spatial = (fused - low)[:, :-1, -1].abs().mean(-1)
    return _pair_change(fused[:, :-1, :-1], low[:, :-1, :-1]), spatial


def qnr(hrms: Image, lms: AnyImage, pan: AnyImage, pan_lp: AnyImage, block: int = BLOCK) -> Scores:
    """Quality with no reference, (1 - D_lambda)(1 - D_s); 1 is best, higher is better.

    Alparone et al. 2008 [alparone2008multispectral], both exponents 1; Eq. (11) of CLIPPan [jian2026clippan].

    Args:
        hrms, lms, pan, pan_lp, block: as in `distortions`.
    Returns: (b,), at most 1.
    Raises: ValueError where `distortions` does.
    """
    spectral, spatial = distortions(hrms, lms, pan, pan_lp, block)
    return (1 - spectral) * (1 - spatial)


def d_lambda_k(
    hrms: Image, lms: AnyImage, gnyq: Sequence[float], ratio: int, dn_max: float | int | None = None
) -> Scores:
    """Spectral distortion of Khan: 1 - Q2n of the fused image, blurred as the sensor would; 0 is best.

    Khan, Alparone and Chanussot 2009 [khan2009pansharpening], as the toolbox has it: the blurred image is
    compared with EXP of lrms, undecimated.

    Args:
        hrms, lms: (b, c, H, W), sides multiples of 32; [0, 1] where there is a `dn_max` but 1.
        gnyq: MTF gain at Nyquist, one per band.
        ratio: PAN-to-MS scale.
        dn_max: as in `q2n`.
    Returns: (b,), in [0, 1].
    Raises: ValueError on unequal shapes, values that are not finite, sides that are no multiples of 32, gains that do
        not fit the bands, or images that `dn_max` is to take to digital numbers and that are plainly not in [0, 1].
    """
    check_images(hrms=hrms, lms=lms)
    check_rounding(dn_max, hrms, lms=lms)
    height, width = hrms.shape[-2:]
    check_blocks(height, width, BLOCK)  # as the toolbox refuses, though q2n would mirror
    blurred = filter_image(hrms, mtf_kernel(tuple(gnyq), ratio))
    return 1 - q2n(blurred, lms, BLOCK, dn_max)


def hqnr(
    hrms: Image,
    lms: AnyImage,
    pan: AnyImage,
    pan_lp: AnyImage,
    gnyq: Sequence[float],
    ratio: int,
    dn_max: float | int | None = None,
) -> Scores:
    """Hybrid quality with no reference, (1 - D_lambda_K)(1 - D_s); 1 is best, higher is better.

    Aiazzi et al. 2014 [aiazzi2014full].

    Args:
        hrms, lms, pan, pan_lp: as in `d_s`.
        gnyq, ratio, dn_max: as in `d_lambda_k`.
    Returns: (b,), at most 1.
    Raises: ValueError where `d_s` or `d_lambda_k` does.
    """
    return (1 - d_lambda_k(hrms, lms, gnyq, ratio, dn_max)) * (1 - d_s(hrms, lms, pan, pan_lp))
