"""MTF gains, and the shift between MS and PAN, measured from the pair itself.

A product need not have the optics of its satellite's table: providers resample, sharpen and compress. PAN, moved
and degraded (`clippan_lib.mtf`), looks most like the bands where shift and gain are those of the pair. A shift of
one PAN pixel lowers a gain of .30 to about .23, so that both are found in one fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from jaxtyping import Bool, Float64
from scipy.special import ndtri
from torch import Tensor

from clippan_lib.optics.fit import over_gains, over_shifts, prepare, whole_shift
from clippan_lib.optics.peaks import BlockSums, co_moments, explained, half_width, peak, vertex, without_each
from clippan_lib.optics.search import far_shift
from clippan_lib.shapes import LRMS, PAN, check_pair

# Of gains: below, nothing is left at Nyquist; above, aliasing hides where the filter ends
BOUNDS = (0.03, 0.6)
LEAST_R2 = 0.7
WIDEST = 3.0  # an interval's upper end over its lower end

_GAINS = np.geomspace(*BOUNDS, 13)
# What a band shows at fine scales is not in the same proportion to PAN as at coarse ones, and passes for a filter.
# On 40 degraded pairs (5 synthetic scenes, 5 real ones one scale down, 4 sets of gains) the error of log(gain) was
# _COLOUR * sqrt(1 - R²), between R² of .3 and of .99; on others that were not looked at for it, 96 % of the intervals
# hold the truth (benchmarks/optics.py).
_COLOUR = 0.5
_AT_BEST = 0.03  # of log(gain), where R² is 1
_BETWEEN_BANDS = 0.15  # deviation of log(gain) within one sensor; QuickBird's .17 is the largest of `sensors`

_ROUNDS = 5  # of gain and shift in turn
_STILL = 0.02  # PAN px
_SAME = 0.02  # R²

Window = tuple[int, int, int]  # image of the batch, top, left


@dataclass(frozen=True)
class Optics:
    """What `measure_optics` found.

    Args:
        gnyq: gain at Nyquist, one per band, in the terms of `degrade`: of the filter that makes PAN as soft as the
            band is.
        interval: (lower, upper) of each, 95 %.
        common: one gain for all bands together, within `BOUNDS`.
        shift: rows and columns, PAN px: what MS pixel k shows lies in PAN at ratio*k + ratio//2 + shift. Where PAN
            lies too far down and right, both are positive.
        shift_interval: (lower, upper) of each, 95 %.
        r2: the share of the variance of PAN's detail that all bands explain, at this shift and the common gain.
        curve: (gain, the same share at that gain), for gains over all `BOUNDS`.
        reach: the largest shift that was looked for, whole PAN px.
    """

    gnyq: tuple[float, ...]
    interval: tuple[tuple[float, float], ...]
    common: float
    shift: tuple[float, float]
    shift_interval: tuple[tuple[float, float], tuple[float, float]]
    r2: float
    curve: tuple[tuple[float, float], ...]
    reach: int

    @property
    def good(self) -> bool:
        """Whether the fit may be relied on.

        The bands explain PAN's detail (`LEAST_R2`: pairs that belong together have .82 to .98, pairs of two places
        at most .1), the common gain is none of the `BOUNDS`, each gain is known within a factor (`WIDEST`), and the
        shift is no larger than what was looked for.
        """
        return (
            self.r2 >= LEAST_R2
            and BOUNDS[0] * 1.01 < self.common < BOUNDS[1] / 1.01
            and all(upper < WIDEST * lower for lower, upper in self.interval)
            and max(map(abs, self.shift)) < self.reach
        )


def measure_optics(
    lrms: LRMS,
    pan: PAN,
    ratio: int,
    valid: Bool[Tensor, "_ 1 _ _"] | None = None,
    *,
    reach: int = 4,
    wide: bool = False,
    windows: int = 4,
    side: int = 256,
) -> Optics:
    """MTF gains of the bands, and where PAN lies relative to them, from one pair.

    PAN is filtered with a gain (`mtf_kernel`), moved and decimated; of it and of the bands a mean of 5 x 5 LRMS px
    is taken off. The shift and the common gain are those at which all bands together explain most of what is left
    of PAN (R² of a regression). The gain of one band is where that band alone explains most, with a factor of its
    own in each block of 32 LRMS px. Of a band that looks unlike PAN this says little (`interval` allows for it), so
    that it is drawn towards the common gain: a model of random effects about it, with the spread that the bands
    themselves show (by moments, as DerSimonian and Laird 1986 [dersimonian1986meta] do), of at least 15 %.

    Gains are relative to PAN: on a PAN that was sharpened they come out lower, on a soft one higher. Intervals
    contain what a jackknife over blocks says and what the unlikeness of bands and PAN was seen to do.

    Args:
        lrms: (b, c, h, w) in [0, 1], several windows of one scene if b > 1: one answer for all of them.
        pan: (b, 1, ratio*h, ratio*w) in [0, 1].
        ratio: PAN-to-MS scale, at least 2.
        valid: (b, 1, h, w), False where MS or PAN is NoData; None: all hold data.
        reach: largest shift looked for, whole PAN px, at least 1.
        wide: whether to look farther, over half of a window and more (`far_shift`), where the bands explain little of
            PAN within `reach`, or most at its edge.
        windows: largest number of windows; a larger image is sampled by so many of them, spread evenly.
        side: side of a window, LRMS px.
    Raises: ValueError if the pair does not fit `ratio`, holds too few pixels, NaN or infinite values where it is
        valid, or a band or PAN without detail.
    """
    check_pair(lrms, pan, ratio)
    if valid is None:
        valid = torch.ones_like(lrms[:, :1], dtype=torch.bool)
    if valid.shape != lrms[:, :1].shape or min(reach, windows, side) < 1:
        raise ValueError(
            f"valid {tuple(valid.shape)} must be {tuple(lrms[:, :1].shape)}, and reach {reach}, windows {windows} "
            f"and side {side} at least 1"
        )
    chosen, sides = _windows(valid, windows, side)
    lrms, pan, valid = _cut(lrms, chosen, sides), _cut(pan, chosen, sides, ratio), _cut(valid, chosen, sides)
    found = _fitted(lrms, pan, valid, ratio, reach)
    if not wide or (found.r2 >= LEAST_R2 and max(map(abs, found.shift)) < reach):
        return found
    off, _ = far_shift(lrms, pan, valid, ratio)
    try:
        farther = _fitted(*_overlapping(lrms, pan, valid, ratio, off), ratio, reach)
    except ValueError:  # too little is left
        return found
    # at the edge both may have found the same place, which only one of them was looking at
    if farther.r2 <= found.r2 - (_SAME if found.r2 >= LEAST_R2 else 0.0):
        return found
    return _moved(farther, (ratio * off[0], ratio * off[1]))


def _overlapping(
    lrms: LRMS, pan: PAN, valid: Bool[Tensor, "b 1 h w"], ratio: int, off: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """What both show if PAN lies so many MS pixels down and right."""
    (top, left), (low, right) = ([max(0, sign * by) for by in off] for sign in (-1, 1))
    height, width = (length - abs(by) for length, by in zip(lrms.shape[-2:], off, strict=True))
    lrms, valid = (image[..., top : top + height, left : left + width] for image in (lrms, valid))
    rows, columns = slice(ratio * low, ratio * (low + height)), slice(ratio * right, ratio * (right + width))
    return lrms, pan[..., rows, columns], valid


def _moved(found: Optics, by: tuple[int, int]) -> Optics:
    """The same with a shift that much larger."""
    down, right = (at + more for at, more in zip(found.shift, by, strict=True))
    intervals = [
        (lower + more, upper + more) for (lower, upper), more in zip(found.shift_interval, by, strict=True)
    ]
    reach = found.reach + max(map(abs, by))
    return replace(found, shift=(down, right), shift_interval=(intervals[0], intervals[1]), reach=reach)


def _fitted(lrms: LRMS, pan: PAN, valid: Bool[Tensor, "b 1 h w"], ratio: int, reach: int) -> Optics:
    fit = prepare(lrms, pan, valid, ratio, reach)
    fit, shift = whole_shift(fit, reach)
    for _ in range(_ROUNDS):
        gain = peak(_GAINS[::2], explained(over_gains(fit, _GAINS[::2], shift).sum(1)))[0].item()
        around = over_shifts(fit, gain, shift)
        move = vertex(explained(around.sum(1)))
        shift = shift + move
        if np.abs(move).max() < _STILL:
            break
    half_shift = np.hypot(_STILL, half_width(vertex(explained(without_each(around)))))
    trials = over_gains(fit, _GAINS, shift)
    curve = explained(trials.sum(1))
    common, r2 = peak(_GAINS, curve)
    gains, deviations = _gains(trials)
    down, right = shift.tolist()
    down_interval, right_interval = _pairs(shift - half_shift, shift + half_shift)
    half = ndtri(0.975) * deviations
    return Optics(
        gnyq=tuple(np.exp(gains).tolist()),
        interval=_pairs(np.exp(gains - half), np.exp(gains + half)),
        common=common.item(),
        shift=(down, right),
        shift_interval=(down_interval, right_interval),
        r2=min(r2.item(), 1.0),  # a spline may overshoot
        curve=_pairs(_GAINS, curve),
        reach=reach,
    )


def _pairs(first: np.ndarray, second: np.ndarray) -> tuple[tuple[float, float], ...]:
    return tuple(zip(first.tolist(), second.tolist(), strict=True))


def _windows(valid: Bool[Tensor, "b 1 h w"], windows: int, side: int) -> tuple[list[Window], tuple[int, int]]:
    """Which windows are used, and their height and width: whole images, or some that hold data."""
    b, _, *lengths = valid.shape
    whole = valid.numel() <= windows * side**2
    height, width = (length if whole else min(length, side) for length in lengths)
    tops, lefts = (
        np.linspace(0, length - cut, length // cut).astype(int).tolist()
        for length, cut in zip(lengths, (height, width), strict=True)
    )
    places = list(product(range(b), tops, lefts))
    held = _cut(valid, places, (height, width)).sum((1, 2, 3))
    places = [place for place, full in zip(places, (2 * held >= held.max()).tolist(), strict=True) if full]
    count = len(places) if whole else min(windows, len(places))
    return [places[i] for i in np.linspace(0, len(places) - 1, count).astype(int)], (height, width)


def _cut(image: Tensor, places: Sequence[Window], sides: tuple[int, int], scale: int = 1) -> Tensor:
    height, width = (scale * side for side in sides)
    corners = ((index, scale * top, scale * left) for index, top, left in places)
    return torch.stack([image[i, :, y : y + height, x : x + width] for i, y, x in corners])


def _gains(trials: BlockSums) -> tuple[Float64[np.ndarray, " c"], Float64[np.ndarray, " c"]]:
    """From the sums at all `_GAINS`, per band: log(gain) and its standard deviation."""
    # each band alone, with a factor of its own in each block
    products = co_moments(trials)
    own_power = products.diagonal(dim1=-2, dim2=-1)[..., :-1].clamp(min=torch.finfo(torch.float64).tiny)
    gained, total = products[..., :-1, -1].square() / own_power, products[..., -1:, -1]
    alone = (gained.sum(1) / total.sum(1)).numpy()
    alone_left_out = (without_each(gained) / without_each(total)).numpy()
    # all bands together come first, then each
    curves = np.concatenate([explained(trials.sum(1))[:, None], alone], 1)
    left_out = np.concatenate([explained(without_each(trials))[..., None], alone_left_out], 2)
    gains, r2 = peak(_GAINS, curves)
    sampled = half_width(np.log(peak(_GAINS, left_out)[0])) / ndtri(0.975)
    found, error = np.log(gains), sampled**2 + _COLOUR**2 * (1 - r2) + _AT_BEST**2
    return _drawn_together(found[0].item(), found[1:], error[0].item(), error[1:])


def _drawn_together(
    centre: float, own: Float64[np.ndarray, " c"], centre_error: float, error: Float64[np.ndarray, " c"]
) -> tuple[Float64[np.ndarray, " c"], Float64[np.ndarray, " c"]]:
    """Values drawn towards their centre the more, the larger their errors (variances); and their deviations."""
    seen = float(np.average((own - centre) ** 2 - error, weights=1 / error))
    between = max(_BETWEEN_BANDS**2, seen)
    share = between / (between + error)
    return centre + share * (own - centre), np.sqrt(share * error + (1 - share) ** 2 * centre_error)
