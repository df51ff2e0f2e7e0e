"""Does the fused image, seen as the sensor would see it, give LRMS back? R-Q2n, R-SAM, R-ERGAS.

Scarpa and Ciotola 2022 [scarpa2022full]: each band is filtered with its MTF and decimated on the phase on which LRMS
lies best on PAN, found band by band; then a score with a reference compares it with LRMS.
"""

from collections.abc import Sequence
from math import ceil

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from clippan_lib.metrics.reference import AnyImage, check_images, check_rounding, q2n
from clippan_lib.metrics.spatial import local_correlation
from clippan_lib.mtf import filter_image, mtf_kernel
from clippan_lib.shapes import LRMS, Image, Scores, check_pair

BLOCK = 32
Phases = Int64[Tensor, "b c"]


def _every_phase(image: Image, ratio: int) -> Float[Tensor, "b c p h w"]:
    """All ratio*ratio decimations; number ratio*i + j keeps rows i, i + ratio, ... and columns j, j + ratio, ..."""
    b, c, height, width = image.shape
    cells = image.view(b, c, height // ratio, ratio, width // ratio, ratio)
    return cells.permute(0, 1, 3, 5, 2, 4).reshape(b, c, ratio * ratio, height // ratio, width // ratio)


def phases(lrms: LRMS, pan: AnyImage, gnyq: Sequence[float], ratio: int) -> Phases:
    """Where each band's pixels lie in the grid of PAN, to a whole pixel of PAN.

    The phase with the highest mean local correlation between the band and PAN, filtered with the first band's MTF, as
    the public code has it. On the phase of `mtf.decimate` it is ratio*(ratio//2) + ratio//2.

    Args:
        lrms: (b, c, h, w).
        pan: (b, 1, ratio*h, ratio*w).
        gnyq: MTF gain at Nyquist, one per band; the first is used.
        ratio: PAN-to-MS scale.
    Returns: (b, c), ratio*i + j for rows i and columns j.
    Raises: ValueError on sizes that do not fit.
    """
    check_pair(lrms, pan, ratio)
    candidates = _every_phase(filter_image(pan, mtf_kernel((gnyq[0],), ratio)), ratio)[:, 0]
    found = [
        local_correlation(lrms, candidates[:, k : k + 1], ceil(ratio / 2)).mean((-2, -1))
        for k in range(ratio * ratio)
    ]
    return torch.stack(found, -1).argmax(-1)


def reproject(hrms: Image, gnyq: Sequence[float], ratio: int, where: Phases) -> LRMS:
    """The fused image as the sensor would see it: MTF filter, then decimation on each band's own phase.

    Args:
        hrms: (b, c, H, W), both sides multiples of `ratio`.
        gnyq: MTF gain at Nyquist, one per band.
        ratio: PAN-to-MS scale.
        where: from `phases`.
    Returns: (b, c, H/ratio, W/ratio).
    Raises: ValueError if the gains do not fit the bands.
    """
    return at_phase(filter_image(hrms, mtf_kernel(tuple(gnyq), ratio)), ratio, where)


def at_phase(image: Image, ratio: int, where: Phases) -> LRMS:
    """Decimate each band on its own phase, without a filter.

    Args:
        image: (b, c, H, W), both sides multiples of `ratio`.
        ratio, where: as in `reproject`.
    Returns: (b, c, H/ratio, W/ratio).
    """
    every = _every_phase(image, ratio)
    index = where.to(image.device)[:, :, None, None, None].expand(-1, -1, 1, *every.shape[-2:])
    return every.gather(2, index).squeeze(2)


def r_q2n(seen: LRMS, lrms: LRMS, dn_max: float | int | None = None) -> Scores:
    """Q2n of a reprojected image against LRMS; 1 is best. No border is cut.

    Blocks have 32 LRMS px, or the shorter side of a smaller image. R_SAM and R_ERGAS are `sam` and `ergas` of the same
    images.

    Args:
        seen: from `reproject`.
        lrms: (b, c, h, w), in the units of `seen`.
        dn_max: as in `q2n`.
    Returns: (b,), in [0, 1].
    Raises: ValueError where `q2n` does.
    """
    check_rounding(dn_max, seen, lrms=lrms)
    return q2n(seen, lrms, min(BLOCK, *lrms.shape[-2:]), dn_max)


def reprojection_map(seen: LRMS, lrms: AnyImage) -> Float[Tensor, "b 1 h w"]:
    """How far each pixel of a reprojected image is from LRMS: mean absolute difference over bands.

    Args:
        seen: from `reproject`.
        lrms: (b, c, h, w).
    Returns: (b, 1, h, w), in the units of the images.
    Raises: ValueError on unequal shapes or values that are not finite.
    """
    check_images(seen=seen, lrms=lrms)
    return (seen - lrms).abs().mean(1, keepdim=True)
