"""Sparse representation: the details of a patch are a few patches of PAN, chosen at low resolution."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float64, Int64
from torch import Tensor

from clippan_lib.fusion.classical.stages import Stages, staged
from clippan_lib.fusion.classical.statistics import Spread, quotient_or_zero
from clippan_lib.mtf import Border, decimate, degrade, filter_image, imresize, mtf_kernel, upsample
from clippan_lib.shapes import LRMS, PAN, check_pair

Details = Float64[Tensor, "b c H W"]
Patches = Float64[Tensor, "b n c k"]
Targets = Float64[Tensor, "b m c k"]

# what an atom adds to the span of the others, relative to its length: above float64 rounding, far below
# what patches of real images add
_DEPENDENT = 1e-10


def matching_pursuit(
    dictionary: Patches, targets: Targets, first: Int64[Tensor, " m"], atoms: int
) -> tuple[Int64[Tensor, "b m {atoms}"], Float64[Tensor, "b m c {atoms}"]]:
    """Orthogonal matching pursuit of all targets at once; bands share the atoms, each has own coefficients.

    The next atom is the one with the largest product with what is left, its length included. An atom that
    adds nothing in a band, since it lies in the span of the others, has coefficient 0 there.

    Args:
        dictionary: (b, n, c, k), n atoms of k values in c bands.
        targets: (b, m, c, k).
        first: (m,), the atom that each target begins with.
        atoms: how many to choose for each target.
    Returns: the chosen atoms (b, m, atoms), their coefficients (b, m, c, atoms).
    """
    batch = torch.arange(len(targets), device=targets.device)[:, None]
    indices, left, basis = [], targets, targets.new_zeros(*targets.shape[:-1], 0, targets.shape[-1])
    for position in range(atoms):
        if position:
            chosen = (left.flatten(2) @ dictionary.flatten(2).mT).abs().argmax(-1)
        else:
            chosen = first.expand(len(targets), -1)
        indices.append(chosen)
        atom = direction = dictionary[batch, chosen].unsqueeze(-2)
        for _ in range(2):  # once leaves rounding that grows with the parallelism of the atoms
            direction = direction - direction @ basis.mT @ basis
        length = direction.norm(dim=-1, keepdim=True)
        new = length > _DEPENDENT * atom.norm(dim=-1, keepdim=True)
        direction = torch.where(new, direction / length, 0.0)
        basis = torch.cat([basis, direction], -2)
        left = left - (left.unsqueeze(-2) @ direction.mT @ direction).squeeze(-2)
    indices = torch.stack(indices, -1)
    triangle = basis @ dictionary[batch.unsqueeze(-1), indices].permute(0, 1, 3, 4, 2)
    absent = (triangle.diagonal(dim1=-2, dim2=-1) == 0).to(triangle)
    along = basis @ targets.unsqueeze(-1)
    solution = torch.linalg.solve_triangular(triangle + torch.diag_embed(absent), along, upper=True)
    return indices, solution.squeeze(-1)


def _starts(length: int, patch: int, step: int) -> Int64[Tensor, " n"]:
    """First pixels of the patches along one axis; the last patch is moved back to end with the image."""
    return torch.arange(0, length - patch + step, step).clamp(max=length - patch)


def _windows(
    image: Details, rows: Int64[Tensor, "b *n"], columns: Int64[Tensor, "b *n"], size: int
) -> Float64[Tensor, "b *n c {size} {size}"]:
    """Square windows that start at these pixels."""
    batch = torch.arange(len(image), device=image.device).view(-1, *[1] * (rows.ndim - 1))
    return image.unfold(2, size, 1).unfold(3, size, 1)[batch, :, rows, columns]


def _strip(patches: Float64[Tensor, "b n c s s"], step: int, width: int) -> Float64[Tensor, "b c s {width}"]:
    """Sum of one row of overlapping patches, the last of which ends with the image."""
    b, count, bands, size, _ = patches.shape
    strip = patches.new_zeros(b, bands, size, width)
    if count > 1:
        columns = patches[:, :-1].permute(0, 2, 3, 4, 1).flatten(1, 3)
        regular = size + step * (count - 2)
        strip[..., :regular] = F.fold(columns, (size, regular), size, stride=step)
    strip[..., -size:] += patches[:, -1]
    return strip


def _reconstruct(
    high: Details,
    low: Float64[Tensor, "b c h w"],
    wanted: Float64[Tensor, "b c h w"],
    patch: int,
    overlap: int,
    atoms: int,
) -> Details:
    """Details whose patches are to the patches of `high` what those of `wanted` are to those of `low`."""
    step, ratio = patch - overlap, high.shape[-1] // low.shape[-1]
    top, left = (_starts(side, patch, step).to(high.device) for side in low.shape[-2:])
    rows, columns = (x.flatten() for x in torch.meshgrid(top, left, indexing="ij"))
    everywhere = [x.expand(len(low), -1) for x in (rows, columns)]
    dictionary, targets = (_windows(x, *everywhere, patch).flatten(3) for x in (low, wanted))
    details, size = torch.zeros_like(high), ratio * patch
    # a row of patches at a time: products of all targets with all atoms would not fit into memory
    for row, first in zip(
        top.tolist(), torch.arange(len(rows), device=high.device).split(len(left)), strict=True
    ):
        chosen, coefficients = matching_pursuit(dictionary, targets[:, first], first, atoms)
        windows = _windows(high, ratio * rows[chosen], ratio * columns[chosen], size)
        patches = torch.einsum("bnacyx,bnca->bncyx", windows, coefficients)
        details[..., ratio * row : ratio * row + size, :] += _strip(patches, ratio * step, high.shape[-1])
    covers = [(x[:, None] + torch.arange(patch, device=x.device)).flatten().bincount() for x in (top, left)]
    rows, columns = (x.repeat_interleave(ratio) for x in covers)
    return details / (rows[:, None] * columns)


@staged(lambda ratio: None)  # every patch of PAN is an atom of every other
def sr_d(
    lrms: LRMS,
    pan: PAN,
    ratio: int,
    gnyq: Sequence[float],
    patch: int = 7,
    overlap: int = 4,
    atoms: int = 10,
    border: Border = "replicate",
) -> Stages:
    """SR-D: details of PAN patches, combined as they best give the bands' details at low resolution.

    Vicinanza et al. 2015 [vicinanza2015pansharpening], as in the toolbox (its name: CS), whose low-pass
    PAN is decimated at one phase and enlarged, bicubic, at another. Departs from it in: an atom in the span
    of the others gets coefficient 0, in any unit, instead of taking the band's whole detail away. The kernels
    sum to a little under 1, so constant images gain about 0.1 %.

    Every patch of PAN is an atom. With n = hw / (patch - overlap)^2 of them the cost is that of `atoms - 1`
    matrix products of n x c patch^2 by c patch^2 x n in float64, sixteen times as much for twice the side. Of
    8 bands on one CPU core: 0.3 s and 0.1 GiB for a PAN of 256 x 256, 4 s and 0.3 GiB for 512 x 512, a minute
    and 0.9 GiB for 1024 x 1024. Cut larger scenes into tiles.

    Args:
        lrms: (b, c, h, w), any linear unit; both sides at least `patch`.
        pan: (b, 1, ratio*h, ratio*w), the same unit.
        ratio: PAN-to-MS scale, at least 2.
        gnyq: MTF gain at Nyquist, one per band, in (0, 1).
        patch: side of the patches in low-resolution pixels.
        overlap: overlap of neighbouring patches, in low-resolution pixels, less than `patch`.
        atoms: how many patches of PAN are combined, at least 1.
        border: how EXP extends the image at its border, as in `mtf.upsample`.
    Returns: (b, c, ratio*h, ratio*w), in the unit of `lrms`, not clipped.
    Raises: ValueError if the pair does not fit `ratio`, the gains not the bands, or the patch not the image.
    """
    check_pair(lrms, pan, ratio)
    if not 0 <= overlap < patch <= min(lrms.shape[-2:]) or atoms < 1:
        raise ValueError(
            f"patch {patch} must fit into lrms {tuple(lrms.shape)}, overlap {overlap} be at least 0 and less "
            f"than patch, atoms {atoms} at least 1"
        )
    lms = upsample(lrms, ratio, border).double()
    pan = pan.double()
    (spread,) = yield (Spread(lms=lms, pan=pan),)
    lowpass = filter_image(lms, mtf_kernel(gnyq, ratio))
    gain = quotient_or_zero(spread.deviation("lms"), spread.deviation("pan"))
    matched = gain * spread.centred("pan", pan) + spread.mean("lms")
    details = matched - imresize(degrade(matched, gnyq, ratio), matched.shape[-2:])
    wanted = decimate(lms - lowpass, ratio)
    details = _reconstruct(details, degrade(details, gnyq, ratio), wanted, patch, overlap, atoms)
    return (lms + details).to(lrms.dtype)
