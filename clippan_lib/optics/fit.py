"""One degradation of PAN after the other, compared with the bands: the sums that a regression needs, by blocks."""

from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Complex64, Float, Float64
from scipy.fft import next_fast_len
from torch import Tensor

from clippan_lib.mtf import mtf_kernel
from clippan_lib.optics.peaks import STEPS, BlockSums, Gains, explained, explained_by_blocks
from clippan_lib.shapes import LRMS, PAN, Image

_SEARCH_GAIN = 0.2  # for whole pixels of shift, whose best is the same at any gain
_MEAN = 5  # LRMS px: side of the mean that is taken off; what remains is the detail
_FILTER = 3  # LRMS px: reach of the widest filter, 3.5 standard deviations
_BLOCK = 32  # LRMS px
_LEAST_BLOCKS = 3  # per side of a window
_LEAST_PIXELS = 400  # LRMS px
_LEAST_IN_BLOCK = 25  # LRMS px, of those that are used
_LEAST_USED = 4  # blocks: fewer have no jackknife
_DOUBTFUL = 0.7  # R² of all pixels, below which blocks vote
_FITS = 0.5  # R² of a block alone; by chance hardly any has it
_LEAST_SHARE = 0.25  # of the blocks, which have to fit
_FLAT = (
    1e-13  # variance of what is constant but for rounding; one 16-bit number in a thousand pixels has 2e-13
)

Point = Float64[np.ndarray, "2"]


class Fit(NamedTuple):
    """What does not depend on shift and gain: PAN's spectrum, and the bands' detail in blocks.

    `known` is (n, 1 + c, pixels): a mask, and the bands' detail times it.
    """

    spectrum: Complex64[Tensor, "b H W"]
    known: Float64[Tensor, "n k p"]
    inner: tuple[slice, slice]
    blocks: tuple[int, int]
    ratio: int


def prepare(lrms: LRMS, pan: PAN, valid: Bool[Tensor, "b 1 h w"], ratio: int, reach: int) -> Fit:
    """Detail, blocks and spectrum of a pair.

    Raises: ValueError on too few pixels, on values that are not finite, and on a band or PAN without detail.
    """
    rim = _FILTER + _MEAN // 2 + -(-reach // ratio)
    counts = [max(_LEAST_BLOCKS, round((length - 2 * rim) / _BLOCK)) for length in lrms.shape[-2:]]
    inner = [
        slice(rim, rim + max(0, length - 2 * rim) // count * count)
        for length, count in zip(lrms.shape[-2:], counts, strict=True)
    ]
    fine = valid.repeat_interleave(ratio, -2).repeat_interleave(ratio, -1)
    # in single precision: twice as fast, and R² is the same to 1e-6
    spectrum = torch.fft.fft2(
        _filled(pan, fine, "pan")[:, 0].float(),
        s=[ratio * next_fast_len(length) for length in lrms.shape[-2:]],
    )
    mask = 1 - F.max_pool2d((~valid).double(), 2 * rim + 1, stride=1, padding=rim)
    known = torch.cat([mask, mask * _detail(_filled(lrms, valid, "lrms"))], 1)
    fit = Fit(spectrum, known, (inner[0], inner[1]), (counts[0], counts[1]), ratio)
    fit = fit._replace(known=_in_blocks(fit, known))
    used = fit.known[:, 0].sum(-1)
    enough = used >= _LEAST_IN_BLOCK
    pixels, blocks = int(used[enough].sum()), int(enough.sum())
    if pixels < _LEAST_PIXELS or blocks < _LEAST_USED:
        raise ValueError(
            f"lrms {tuple(lrms.shape)} has {pixels} valid pixels, in {blocks} blocks, that lie {rim} px away from "
            f"borders and NoData, but {_LEAST_PIXELS} in {_LEAST_USED} are needed; give a larger part of the scene"
        )
    fit = fit._replace(known=fit.known * enough[:, None, None])
    energies = (
        sums(fit, degraded(fit, _filtered(fit, _SEARCH_GAIN), np.zeros(2))).sum(0).diagonal()[1:] / pixels
    )
    names = [f"band {index} of lrms (from 0)" for index in range(lrms.shape[1])] + ["pan"]
    for name, energy in zip(names, energies.tolist(), strict=True):
        if energy <= _FLAT:
            raise ValueError(
                f"{name} is constant: its detail has a variance of {energy:.1g}; leave it out, or give another part "
                "of the scene"
            )
    return fit


def _filled(image: Image, valid: Bool[Tensor, "b 1 h w"], name: str) -> Image:
    """Less its mean, in float64, 0 where it is not valid: any value would do, no pixel that it reaches is used."""
    if not image.masked_fill(~valid, 0.0).isfinite().all():
        raise ValueError(f"{name} holds NaN or infinite values; mark them as False in `valid`")
    image = image.double().masked_fill(~valid, 0.0)
    return (image - image.sum((0, 2, 3), keepdim=True) / valid.sum()).masked_fill(~valid, 0.0)


def _detail(image: Image) -> Image:
    padded = F.pad(image, (_MEAN // 2,) * 4, mode="replicate")
    return image - F.avg_pool2d(padded, _MEAN, stride=1)


def _in_blocks(fit: Fit, image: Image) -> Float64[Tensor, "n k p"]:
    (rows, columns), (down, across) = fit.inner, fit.blocks
    parts = image[..., rows, columns].unflatten(-1, (across, -1)).unflatten(-3, (down, -1))
    return parts.permute(0, 2, 4, 1, 3, 5).flatten(4).flatten(0, 2)


@lru_cache(maxsize=32)
def _response(gain: float, ratio: int, sides: tuple[int, int]) -> Float[Tensor, "H W"]:
    """Of the filter, at all frequencies: each gain is tried at one shift after the other, and in each scene."""
    kernel = mtf_kernel((gain,), ratio)[0]
    taps = torch.arange(len(kernel), dtype=torch.float64) - len(kernel) // 2
    # a symmetric kernel: its response is real
    rows, columns = (
        torch.cos(2 * torch.pi * torch.fft.fftfreq(side, dtype=taps.dtype)[:, None] * taps) for side in sides
    )
    return (rows @ kernel @ columns.T).float()


def _filtered(fit: Fit, gain: float) -> Complex64[Tensor, "b H W"]:
    height, width = fit.spectrum.shape[-2:]
    return fit.spectrum * _response(gain, fit.ratio, (height, width)).to(fit.spectrum.device)


def degraded(fit: Fit, filtered: Complex64[Tensor, "b H W"], shift: Point) -> LRMS:
    """PAN, filtered already, moved back by `shift` and decimated: the spectrum is folded, no pixels are dropped."""
    r = fit.ratio
    rows, columns = (
        torch.exp(2j * torch.pi * (r // 2 + by) * torch.fft.fftfreq(side, dtype=torch.float64)).to(filtered)
        for side, by in zip(filtered.shape[-2:], shift.tolist(), strict=True)
    )
    folded = (filtered * rows[:, None]).unflatten(-2, (r, -1)).sum(-3) * columns
    folded = folded.unflatten(-1, (r, -1)).sum(-2) / r**2
    return torch.fft.ifft2(folded).real[:, None]


def sums(fit: Fit, pan: LRMS) -> Float64[Tensor, "n k k"]:
    """Of products of (1, bands, PAN) over the pixels of each block, PAN being at the size of the bands."""
    detail = fit.known[:, :1] * _in_blocks(fit, _detail(pan.double()))
    features = torch.cat([fit.known, detail], 1)
    return (features @ features.mT).cpu()


def over_gains(fit: Fit, gains: Gains, shift: Point) -> BlockSums:
    """The sums at each gain."""
    return torch.stack([sums(fit, degraded(fit, _filtered(fit, gain), shift)) for gain in gains.tolist()])


def over_shifts(fit: Fit, gain: float, shift: Point) -> BlockSums:
    """The sums at each of the `STEPS` from a shift."""
    filtered = _filtered(fit, gain)
    return torch.stack([sums(fit, degraded(fit, filtered, shift + step)) for step in STEPS])


def whole_shift(fit: Fit, reach: int) -> tuple[Fit, Point]:
    """The best of whole pixels: of one filtered image, each phase is another shift.

    A cloud that moved between the two images has more detail than all land around it. So where all pixels together
    contradict most blocks, or explain little of PAN, blocks vote, and those are left out that do not fit the winner.

    Returns: the fit, of the blocks that count; and the shift.
    """
    image = torch.fft.ifft2(_filtered(fit, _SEARCH_GAIN)).real[:, None]
    shifts = list(product(range(-reach, reach + 1), repeat=2))
    trials = torch.stack([sums(fit, _phase(image, down, right, fit.ratio)) for down, right in shifts])
    of_blocks = explained_by_blocks(trials)
    pooled = explained(trials.sum(1))
    together, voted = pooled.argmax(), of_blocks.sum(1).argmax()
    apart = max(abs(a - b) for a, b in zip(shifts[together], shifts[voted], strict=True))
    fitting = of_blocks[voted] >= _FITS
    enough = fitting.sum() >= max(_LEAST_USED, _LEAST_SHARE * len(fitting))
    if (apart <= 1 and pooled[together] >= _DOUBTFUL) or not enough:
        return fit, np.array(shifts[together], dtype=float)
    kept = torch.from_numpy(fitting).to(fit.known)[:, None, None]
    return fit._replace(known=fit.known * kept), np.array(shifts[voted], dtype=float)


def _phase(image: PAN, down: int, right: int, ratio: int) -> LRMS:
    row, column = ratio // 2 + down, ratio // 2 + right
    phase = image[..., row % ratio :: ratio, column % ratio :: ratio]
    return phase.roll((-(row // ratio), -(column // ratio)), (-2, -1))
