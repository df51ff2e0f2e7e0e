"""Scores of a fused image against a reference, and the block statistics that all block-wise indices share.

Conventions are those of the public MATLAB toolbox (DLPan-Toolbox; Vivone et al. 2021 [vivone2021new]) unless a
function says otherwise. All take images (b, c, H, W), give one score per image, and stay in the images' precision.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from clippan_lib.shapes import Image, Scores, check_unit_range

# Dimensions left open: shapes that differ are refused below, by a message that names the images.
AnyImage = Float[Tensor, "_ _ _ _"]


def check_images(**images: AnyImage) -> None:
    """Refuse images that cannot be compared pixel by pixel and band by band.

    Args:
        images: two or more images under the names the message shall use; the first one gives the shape.
    Raises: ValueError on unequal shapes, or on a value that is not finite.
    """
    (first, head), *rest = images.items()
    for name, image in rest:
        if image.shape != head.shape:
            raise ValueError(
                f"{first} {tuple(head.shape)} and {name} {tuple(image.shape)} must be of one shape"
            )
    for name, image in images.items():
        if torch.isfinite(image.sum()):  # a fifth of the time of looking at every value
            continue
        if bad := int((~torch.isfinite(image)).sum()):
            raise ValueError(f"{name} has {bad} values that are not finite; a score of it would mean nothing")


def check_rounding(dn_max: float | int | None, hrms: AnyImage, **measured: AnyImage) -> None:
    """`check_unit_range`, where a score takes images in [0, 1] to digital numbers; with a `dn_max` of 1 they are some.

    Args:
        dn_max: as in `q2n`.
        hrms, measured: as in `check_unit_range`.
    Raises: DataError as `check_unit_range`.
    """
    if dn_max not in (None, 1):
        check_unit_range(hrms, **measured)


def crop_border(image: Image, cut: int = 21) -> Float[Tensor, "b c _ _"]:
    """Drop the border as the toolbox's `flag_cut_bounds` does: 20 first and 21 last pixels, `[20:-21]`.

    Args:
        image: (b, c, H, W).
        cut: the toolbox's `dim_cut`; 0 keeps everything.
    Returns: (b, c, H-2*cut+1, W-2*cut+1), or the image itself for cut 0.
    Raises: ValueError on a negative cut, or one that leaves nothing.
    """
    if cut == 0:
        return image
    if cut < 0 or min(image.shape[-2:]) < 2 * cut:
        raise ValueError(
            f"a border cut of {cut} does not fit sides {tuple(image.shape[-2:])}; cut less, or 0"
        )
    return image[..., cut - 1 : -cut, cut - 1 : -cut]


def mpsnr(hrms: Image, gt: AnyImage) -> Scores:
    """Peak signal-to-noise ratio of each band, averaged over bands; higher is better.

    Not in the toolbox: the mean over bands is our choice (one MSE over all bands gives less). The peak is 1.

    Args:
        hrms, gt: (b, c, H, W), [0, 1].
    Returns: (b,), dB; infinite, and there not differentiable, where a band is perfect.
    Raises: ValueError on unequal shapes, values that are not finite, or images that are plainly not in [0, 1].

    >>> gt = torch.full((1, 4, 64, 64), 0.5)
    >>> round(mpsnr(gt + 0.1, gt).item(), 3)
    20.0
    """
    check_images(hrms=hrms, gt=gt)
    check_unit_range(hrms, gt=gt)
    return -10 * (hrms - gt).square().mean((-2, -1)).log10().mean(-1)


def ergas(hrms: Image, gt: AnyImage, ratio: int) -> Scores:
    """Relative global error; 0 is perfect, lower is better.

    Wald 2000 [wald2000quality]: 100/ratio * sqrt(mean over bands of MSE_b / mu_b^2), mu_b the mean of the
    reference band.

    Args:
        hrms, gt: (b, c, H, W), any scale common to both.
        ratio: PAN-to-MS scale.
    Returns: (b,), dimensionless.
    Raises: ValueError on unequal shapes, values that are not finite, or a reference band of mean 0.
    """
    check_images(hrms=hrms, gt=gt)
    mean = gt.mean((-2, -1))
    if (mean == 0).any():
        zero = int((mean == 0).sum())
        raise ValueError(f"ERGAS divides by band means, and {zero} bands of gt have mean 0; drop them")
    error = (hrms - gt).square().mean((-2, -1))
    return 100 / ratio * _root((error / mean.square()).mean(-1))


def _root(value: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Square root with gradient 0, not infinite, at 0."""
    return value.clamp(min=torch.finfo(value.dtype).tiny).sqrt() * value.sign()


def sam(hrms: Image, gt: AnyImage) -> Scores:
    """Spectral angle in degrees, averaged over pixels; 0 is perfect, lower is better.

    Yuhas, Goetz and Boardman 1992 [yuhas1992discrimination]. A pixel that is zero in all bands of either image
    has no angle and is left out. The angle of x and y is 2 atan2(|u - v|, |u + v|) with u = x|y| and v = y|x|:
    where they agree, the arccos of their cosine loses half of the digits and has an infinite gradient.

    Args:
        hrms, gt: (b, c, H, W), any scale, c at least 2 (one band has no angle but 0 or 180).
    Returns: (b,), degrees.
    Raises: ValueError on unequal shapes, values that are not finite, or an image with no pixel left.

    >>> red, yellow = torch.zeros(1, 2, 8, 8), torch.ones(1, 2, 8, 8)
    >>> red[:, 0] = 1
    >>> [round(sam(image, red).item(), 3) for image in (yellow, 0.5 * red)]
    [45.0, 0.0]
    """
    check_images(hrms=hrms, gt=gt)
    length, true_length = (_root(image.square().sum(1, keepdim=True)) for image in (hrms, gt))
    kept = ((length > 0) & (true_length > 0)).squeeze(1)
    count = kept.sum((1, 2))
    if (count == 0).any():
        raise ValueError("SAM is undefined: every pixel of an image is zero in all bands of hrms or gt")
    u, v = hrms * true_length, gt * length
    apart, together = (_root(image.square().sum(1)) for image in (u - v, u + v))
    angle = 2 * torch.atan2(apart, together.where(kept, 1.0))
    return torch.rad2deg(angle.sum((-2, -1)) / count)


def scc(hrms: Image, gt: AnyImage) -> Scores:
    """Spatial correlation: cosine between the Sobel magnitudes of two images; 1 is perfect, higher is better.

    Zhou, Civco and Silander 1998 [zhou1998wavelet], as the toolbox has it: a border of one pixel is dropped,
    gradients see zeros outside, the cosine is not centred and pools all bands. An all-zero image scores 0.

    Args:
        hrms, gt: (b, c, H, W), any scale, sides at least 3.
    Returns: (b,), in [0, 1].
    Raises: ValueError on unequal shapes, values that are not finite, or a side under 3.
    """
    check_images(hrms=hrms, gt=gt)
    if min(hrms.shape[-2:]) < 3:
        raise ValueError(f"SCC drops a border of one pixel: sides {tuple(hrms.shape[-2:])} must be 3 or more")
    fused, true = _edges(hrms), _edges(gt)
    energy = _root(fused.square().sum(-1)) * _root(true.square().sum(-1))
    return (fused * true).sum(-1) / energy.clamp(min=torch.finfo(energy.dtype).tiny)


def _edges(image: Image) -> Float[Tensor, "b N"]:
    """Sobel magnitudes: smoothed by 1 2 1 along one axis, differenced along the other."""
    padded = F.pad(image[..., 1:-1, 1:-1], (1, 1, 1, 1))
    across = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]
    down = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]
    rows, columns = across[..., :-2, :] - across[..., 2:, :], down[..., :-2] - down[..., 2:]
    return _root(rows.square() + columns.square()).flatten(1)


def check_blocks(height: int, width: int, block: int) -> None:
    """Refuse sides that disjoint blocks do not tile.

    Args:
        height, width: sides of the image.
        block: side of a block.
    Raises: ValueError on a block under 2, or a side that is no multiple, with the sides to crop to.
    """
    if block < 2:
        raise ValueError(f"a block of {block} has no variance; take 2 or more")
    if height % block or width % block:
        fit = (height - height % block, width - width % block)
        advice = f"crop the image to {fit}" if min(fit) else "take a larger image or a smaller block"
        raise ValueError(f"sides {(height, width)} are no multiples of the block {block}; {advice}")


class BlockMoments(NamedTuple):
    """First and second moments of every band in every block: means, unbiased variances, centred pixels."""

    mean: Float[Tensor, "b n c"]
    variance: Float[Tensor, "b n c"]
    centred: Float[Tensor, "b n c N"]


def block_moments(image: Image, block: int = 32) -> BlockMoments:
    """Moments over disjoint blocks.

    A variance within the rounding of the mean is set to exactly 0, so that a constant block is one.

    Args:
        image: (b, c, H, W), both sides multiples of `block`.
        block: side of a block, at least 2.
    Returns: moments of b images, n blocks, c bands, N = block^2 pixels.
    Raises: ValueError where `check_blocks` does.
    """
    b, c, height, width = image.shape
    check_blocks(height, width, block)
    tiles = image.reshape(b, c, height // block, block, width // block, block)
    tiles = tiles.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c, block * block)
    mean = tiles.mean(-1)
    centred = tiles - mean.unsqueeze(-1)
    variance = centred.square().sum(-1) / (block * block - 1)
    return BlockMoments(mean, variance.where(variance > _rounding(mean), 0.0), centred)


def _rounding(mean: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """The variance that rounding alone can give to a constant block."""
    return (4 * torch.finfo(mean.dtype).eps * mean).square()


def block_covariance(first: BlockMoments, second: BlockMoments) -> Float[Tensor, "b n c d"]:
    """Unbiased covariance of every band of one image with every band of another; 0 where one is constant.

    Args:
        first, second: moments over the same blocks.
    Returns: (b, n, c, d).
    """
    product = first.centred @ second.centred.mT / (first.centred.shape[-1] - 1)
    varies = (first.variance > 0).unsqueeze(-1) & (second.variance > 0).unsqueeze(-2)
    return product.where(varies, 0.0)


def quotient_or_one(numerator: Float[Tensor, "*s"], denominator: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Numerator by a denominator that is not negative; 1, with gradient 0, where the denominator is 0.

    Args:
        numerator, denominator: two tensors of one shape.
    Returns: the same shape.
    """
    defined = denominator > 0
    return (numerator / denominator.where(defined, 1.0)).where(defined, 1.0)


def q2n(hrms: Image, gt: AnyImage, block: int = 32, dn_max: float | int | None = None) -> Scores:
    """Quality of an image with hypercomplex numbers for pixels (Q4, Q8, ...); 1 is perfect, higher is better.

    Alparone et al. 2004 [alparone2004global], Garzelli and Nencini 2009 [garzelli2009hypercomplex]. Bands are
    standardised per block with the statistics of `gt`, c is filled up to a power of two, and sides to multiples
    of `block` by mirroring at the bottom and right. Differs from the toolbox in one limit: a band of `gt`
    constant in a block is divided by its own rounding, not by a fixed 2e-16; both make the block's score 0
    unless the fused band is the same constant.

    Args:
        hrms, gt: (b, c, H, W), any c; [0, 1] where there is a `dn_max` but 1, else any scale common to both.
        block: side of a block, at least 2; sides must be at least half of it.
        dn_max: what takes the images to digital numbers, which are then rounded to 16 bits as the toolbox
            does; 1 if they are digital numbers. None: no rounding, differentiable, and no scale enters.
    Returns: (b,), in [0, 1].
    Raises: ValueError on unequal shapes, values that are not finite, a block of 1, sides under half of it, or images
        that `dn_max` is to take to digital numbers and that are plainly not in [0, 1].

    >>> gt = torch.rand(1, 4, 64, 64)
    >>> round(q2n(gt, gt).item(), 3)
    1.0
    >>> bool(q2n(0.8 * gt, gt) < 0.97)
    True
    """
    check_images(hrms=hrms, gt=gt)
    check_rounding(dn_max, hrms, gt=gt)
    if dn_max is not None:
        # rounding has no gradient: detached, a loss built on it fails loudly and does not stand still
        hrms, gt = ((image.detach() * dn_max).add_(0.5).floor_().clamp_(0, 65535) for image in (hrms, gt))
    fused, true = (block_moments(_mirror(image, block), block) for image in (hrms, gt))
    return _hypercomplex_quality(fused, true).mean(-1)


def _mirror(image: Image, block: int) -> Float[Tensor, "b c _ _"]:
    for dim in (-2, -1):
        side = image.shape[dim]
        missing = -side % block
        if missing > side:
            raise ValueError(f"side {side} is under half of the block {block}; take a smaller block")
        if missing:
            image = torch.cat([image, image.narrow(dim, side - missing, missing).flip(dim)], dim)
    return image


def _hypercomplex_quality(fused: BlockMoments, true: BlockMoments) -> Float[Tensor, "b n"]:
    bands = true.mean.shape[-1]
    size = 1 << (bands - 1).bit_length()
    variance = true.variance.where(true.variance > 0, _rounding(true.mean))
    variance = variance.where(variance > 0, 1.0)  # an all-zero band is not scaled
    scale = variance.sqrt()
    # standardised, each band of gt has mean 1, as have the bands that fill up to `size`
    mean = F.pad((fused.mean - true.mean) / scale + 1, (0, size - bands), value=1.0)
    power = mean.square().sum(-1)
    bias = 2 * _root(size * power) / (size + power)
    covariance = block_covariance(true, fused) / (scale.unsqueeze(-1) * scale.unsqueeze(-2))
    modulus = _root(_conjugate_product(covariance, size).square().sum(-1))
    return bias * quotient_or_one(2 * modulus, ((true.variance + fused.variance) / variance).sum(-1))


def _conjugate_product(outer: Float[Tensor, "b n c c"], size: int) -> Float[Tensor, "b n {size}"]:
    """Components of sum_ij outer_ij e_i e_j*: unit k collects the pairs with i xor j = k."""
    fill = size - outer.shape[-1]
    index, sign = (table.to(outer.device) for table in _unit_products(size))
    return (F.pad(outer, (0, fill, 0, fill)).flatten(-2)[..., index] * sign.to(outer.dtype)).sum(-1)


@lru_cache(maxsize=16)
def _unit_products(size: int) -> tuple[Int64[Tensor, "k i"], Int64[Tensor, "k i"]]:
    """Flat index of (i, j = i xor k) and the sign of e_i e_j*, for unit k and i.

    The doubling is the toolbox's, (a, b)(c, d) = (ac - d*b, a*d* + cb*), which is not the textbook's.
    """
    sign = torch.ones(1, 1, dtype=torch.int64)
    while len(sign) < size:
        star = _conjugation(len(sign))
        lower = torch.cat([star[:, None] * sign.T, -sign.T * star], 1)
        sign = torch.cat([torch.cat([sign, star[:, None] * sign * star], 1), lower])
    unit = torch.arange(size)
    other = unit ^ unit[:, None]
    return unit * size + other, (sign * _conjugation(size))[unit, other]


def _conjugation(size: int) -> Int64[Tensor, " k"]:
    return torch.tensor([1] + [-1] * (size - 1))
