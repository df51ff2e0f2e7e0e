"""Values that stand for no data although no tag says so: named by the user, or found in samples of a pair's files.

Two kinds are found. A value far outside of all others, such as -9999, stands for no data wherever it is. A constant
that all bands have at once, such as the 0 of a collar, does so where it fills a large and solid area; dark water and
deep shadow have it scattered, or in some of the bands. The largest values are never taken for it: clouds and deserts
saturate.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import scipy  # its parts are imported when they are asked for

from clippan_lib.data.pair.grid import Axis
from clippan_lib.data.pair.raster import LIMIT, Fill, Raster
from clippan_lib.data.pair.sample import Sample, take_sample
from clippan_lib.errors import DataError

FAR = 1e6  # times the median: its square is more than those of all pixels of the largest scenes
BELOW, ABOVE = 1, 10  # ranges of all other values, beyond which a value is far
OFTEN = 4  # sampled px that have it
FEW = 8  # different values, below which an image is no picture of land
LEAST = 32  # sampled px of an area
SHARE = 0.03  # of a sample: a picture stretched from its percentile 2 on has 2 % of zeros
SIDE_FILLED = 0.5  # of a border of the file, where the area is smaller than that
SOLID = 0.95  # of an area when its narrow gaps are closed; scattered zeros are less
SHARED = 0.9  # of an area in one file that holds nothing in the other either
DARK = 0.25  # quantile of the other file's values, below which it shows water or shadow there

How = Literal["beyond", "far", "border", "area"]


class Looked(NamedTuple):
    """What stands for no data beside what the files declare.

    Args:
        pan, ms: values, for `Raster`.
        nodata: the value for invalid pixels of an output, None where there is no such value.
        remarks: what was found, a line each.
        most: the largest magnitude of PAN and of MS that can be data.
    """

    pan: tuple[Fill, ...] = ()
    ms: tuple[Fill, ...] = ()
    nodata: float | None = None
    remarks: tuple[str, ...] = ()
    most: tuple[float, float] = (LIMIT, LIMIT)


class _Found(NamedTuple):
    values: tuple[float, ...]  # NaN in bands without one
    how: How
    marks: np.ndarray  # pixels of the sample
    area: np.ndarray  # those by which it was told

    @property
    def different(self) -> list[float]:
        return list(dict.fromkeys(value for value in self.values if not np.isnan(value)))

    @property
    def fill(self) -> Fill:
        return Fill(self.values, self.how in ("border", "area"))


def look_for_fills(
    pan: Raster, ms: Raster, axes: tuple[Axis, Axis], ratio: int, nodata: float | Literal["none"] | None
) -> Looked:
    """Look at samples of both files.

    Args:
        pan, ms: as declared.
        axes, ratio: axes and ratio of the common grid.
        nodata: the value if the user gives one; "none" to look for nothing.
    Raises: DataError if `nodata` is not finite.
    """
    if isinstance(nodata, float | int) and not np.isfinite(nodata):
        raise DataError(f"nodata is {nodata}: NaN and infinite values never are data; give a number, or none")
    high, low = take_sample(pan), take_sample(ms)
    most = _most(high), _most(low)
    if nodata == "none":
        return Looked(most=most)
    if nodata is not None:
        return Looked(_given(high, nodata), _given(low, nodata), float(nodata), most=most)
    low = _in_pan_px(low, axes, ratio)
    of_pan, of_ms = _alone(high), _alone(low)
    high, low = _without(high, of_pan), _without(low, of_ms)
    ours, theirs = _constant(high), _constant(low)
    if ours and _is_confirmed(ours, high, low, theirs):
        of_pan.append(ours)
    # all bands at once, up to the border, need no witness
    if theirs and (theirs.how == "border" or _is_confirmed(theirs, low, high, ours)):
        of_ms.append(theirs)
    common = next((found.different[0] for found in of_ms if len(found.different) == 1), None)
    return Looked(_fills(of_pan), _fills(of_ms), common, _remarks(of_pan, of_ms), most)


def _most(sample: Sample) -> float:
    """A pixel beyond it would alone decide every statistic of the scene."""
    size = np.abs(sample.image[:, sample.valid])
    size = size[(size > 0) & (size < LIMIT)]
    return min(LIMIT, FAR * float(np.median(size))) if size.size else LIMIT


def _fills(found: Sequence[_Found]) -> tuple[Fill, ...]:
    return tuple(each.fill for each in found if each.how != "beyond")  # those `Raster` knows


def _in_pan_px(low: Sample, axes: tuple[Axis, Axis], ratio: int) -> Sample:
    rows, columns = (
        axis.first + ratio // 2 + ratio * (at - axis.origin) / axis.step
        for axis, at in zip(axes, (low.rows, low.columns), strict=True)
    )
    return replace(low, rows=rows, columns=columns)


def _given(sample: Sample, nodata: float) -> tuple[Fill, ...]:
    """A value far outside of a band's others is invalid in that band alone, any other in all bands at once."""
    if abs(nodata) >= LIMIT:
        return ()
    fills = [Fill((nodata,) * len(sample.image), True)]
    valid = sample.valid & np.all(np.abs(sample.image) < LIMIT, axis=0)
    far = [_is_far(nodata, band[valid & (band != np.float32(nodata))]) for band in sample.image]
    if any(far) and len(far) > 1:
        fills.append(Fill(tuple(nodata if is_far else np.nan for is_far in far), False))
    return tuple(fills)


def _is_far(value: float, others: np.ndarray) -> bool:
    if others.size < LEAST:
        return False
    least, largest = float(others.min()), float(others.max())
    spread = largest - least
    beyond = least - value > BELOW * spread or value - largest > ABOVE * spread
    return beyond and spread > 0 and len(np.unique(others)) >= FEW


def _alone(sample: Sample) -> list[_Found]:
    """Values that stand for no data in any band."""
    return [*_beyond(sample), *_far(sample)]


def _beyond(sample: Sample) -> list[_Found]:
    """Finite values from `LIMIT` on: the most frequent one speaks for all."""
    marks = sample.valid & np.any((np.abs(sample.image) >= LIMIT) & np.isfinite(sample.image), axis=0)
    if not marks.any():
        return []
    there = sample.image[:, marks]
    values, counts = np.unique(there[(np.abs(there) >= LIMIT) & np.isfinite(there)], return_counts=True)
    return [_Found((float(values[counts.argmax()]),) * len(sample.image), "beyond", marks, marks)]


def _far(sample: Sample) -> list[_Found]:
    """The least value of a band if it is negative, and the largest if it is no limit of saturation, 2^n - 1."""
    valid = sample.valid & np.all(np.abs(sample.image) < LIMIT, axis=0)
    bands: dict[float, list[int]] = {}
    for number, band in enumerate(sample.image):
        known = band[valid]
        for value in {known.min().item(), known.max().item()} if known.size else ():
            apart = value < 0 or value > 1 and not np.log2(value + 1).is_integer()
            others = known[known != value]
            if apart and known.size - others.size >= OFTEN and _is_far(value, others):
                bands.setdefault(value, []).append(number)
    return [
        _found_far(tuple(value if number in of else np.nan for number in range(len(sample.image))), sample)
        for value, of in bands.items()
    ]


def _found_far(values: tuple[float, ...], sample: Sample) -> _Found:
    marks = sample.valid & Fill(values, False).marks(sample.image)
    return _Found(values, "far", marks, marks)


def _without(sample: Sample, found: Sequence[_Found]) -> Sample:
    valid = sample.valid & np.all(np.isfinite(sample.image), axis=0)
    for each in found:
        valid = valid & ~each.marks
    return replace(sample, valid=valid)


def _constant(sample: Sample) -> _Found | None:
    """The least values of all bands, if none is positive, or else zeros, where they fill an area."""
    image, valid = sample.image, sample.valid
    if not valid.any():
        return None
    for values in {tuple(band[valid].min().item() for band in image): 0, (0.0,) * len(image): 0}:
        marks = valid & Fill(values, True).marks(image)
        others = valid & ~marks
        if max(values) > 0 or min(marks.sum(), others.sum()) < LEAST or _in_few_levels(image, others):
            continue
        for how, area in _areas(marks, valid):
            if _is_solid(area, valid):
                return _Found(values, how, marks, area)
    return None


def _areas(marks: np.ndarray, valid: np.ndarray) -> Iterator[tuple[Literal["border", "area"], np.ndarray]]:
    """What is joined to the border, and what is large: where that is more than land can have."""
    numbers, count = scipy.ndimage.label(marks | ~valid)
    sides = numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1]
    at_border = np.zeros(count + 1, bool)
    at_border[np.concatenate(sides)] = True
    at_border[0] = False
    outer = at_border[numbers] & marks
    filled = max(np.mean(at_border[side]) for side in sides)
    if outer.sum() >= LEAST and (outer.mean() >= SHARE or filled >= SIDE_FILLED):
        yield "border", outer
    large = np.bincount(numbers[marks], minlength=count + 1) >= max(LEAST, SHARE * marks.size)
    if large.any():
        yield "area", large[numbers] & marks


def _is_solid(area: np.ndarray, valid: np.ndarray) -> bool:
    closed = scipy.ndimage.binary_erosion(scipy.ndimage.binary_dilation(area), border_value=1) & valid
    return bool(area.sum() >= SOLID * closed.sum())


def _in_few_levels(image: np.ndarray, valid: np.ndarray) -> bool:
    """Whether other values, not the largest, fill an area as well: an image of few levels, such as a drawing."""
    pixels = image[:, valid]
    if max(len(_levels(band[None])[1]) for band in pixels) < FEW:
        return True
    here = valid[:-1, :-1] & valid[1:, :-1] & valid[:-1, 1:]
    for band in image:
        here = here & (band[:-1, :-1] == band[1:, :-1]) & (band[:-1, :-1] == band[:-1, 1:])
    if here.sum() < SHARE * valid.size:
        return False
    levels, counts = _levels(image[:, :-1, :-1][:, here])
    saturated = (levels == pixels.max(1, keepdims=True)).all(0)
    if saturated.all():
        return False
    most = levels[:, np.where(saturated, 0, counts).argmax()]
    numbers, _ = scipy.ndimage.label(valid & (image == most[:, None, None]).all(0))
    return bool(np.bincount(numbers.flat)[1:].max() >= SHARE * valid.size)


def _levels(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What values (c, n) pixels have, and how often, by some thousand of them."""
    return np.unique(pixels[:, :: 1 + pixels.shape[1] // 4096], axis=1, return_counts=True)


def _is_confirmed(found: _Found, own: Sample, other: Sample, in_other: _Found | None) -> bool:
    """Whether the other file lacks the same area, or shows that it is no darker there than elsewhere."""
    (rows, has_row), (columns, has_column) = (
        _nearest(*places) for places in ((own.rows, other.rows), (own.columns, other.columns))
    )
    area = found.area[np.ix_(rows, columns)] & has_row[:, None] & has_column
    if area.sum() < OFTEN:
        return True  # it lies where the two do not overlap
    absent = ~other.valid if in_other is None else ~other.valid | in_other.marks
    if absent[area].mean() >= SHARED:
        return True
    there, elsewhere = (other.image[:, part & ~absent] for part in (area, ~area))
    if elsewhere.shape[1] < OFTEN:
        return False
    bright = np.median(there, axis=1) >= np.quantile(elsewhere, DARK, axis=1)
    return bool(bright.mean() >= 0.5)


def _nearest(places: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of some increasing places is nearest, and whether what is wanted lies between them."""
    after = np.searchsorted(places, wanted).clip(1, len(places) - 1)
    before = wanted - places[after - 1] < places[after] - wanted
    return after - before, (wanted >= places[0]) & (wanted <= places[-1])


def _remarks(of_pan: Sequence[_Found], of_ms: Sequence[_Found]) -> tuple[str, ...]:
    shares: dict[tuple[str, str], list[str]] = {}
    for name, of_file in (("MS", of_ms), ("PAN", of_pan)):
        for found in of_file:
            share = found.marks.mean()
            text = f"{share:.0%} of {name}" if share >= 0.005 else f"less than 1% of {name}"
            shares.setdefault((_in_words(found.different), found.how), []).append(text)
    return tuple(
        f"{value} is taken for NoData: it fills {' and '.join(parts)}{_WHY[how]}"
        for (value, how), parts in shares.items()
    )


_WHY = {
    "border": ", up to the border; --nodata none keeps it",
    "area": ", in large areas; --nodata none keeps it",
    "far": " and lies far outside of all other values; --nodata none keeps it",
    "beyond": " and is too large to reckon with",
}


def _in_words(values: Sequence[float]) -> str:
    words = [f"{value:.6g}" for value in values]
    return words[0] if len(words) == 1 else f"({', '.join(words)})"
