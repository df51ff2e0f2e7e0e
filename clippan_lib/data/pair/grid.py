"""The common grid of a PAN and an MS file: where it begins in PAN, and where its MS pixels lie in the MS file."""

from dataclasses import dataclass, replace
from math import ceil, floor

import numpy as np
from rasterio import Affine, DatasetReader

from clippan_lib.data.pair.place import refuse_other_ground, refuse_unplaced, same_crs
from clippan_lib.errors import DataError

RATIOS = range(2, 9)
MIN_SIDE = 16  # MS px
RATIO_TOLERANCE = 1e-3
SIZES_APART = 0.02  # of the ratio: without a georeference
TOLERANCE = 1e-4  # px; smaller shifts are float rounding, or too small to matter

# Rows and columns, PAN px, by which MS is moved down and right; or six numbers: those at MS pixel (0, 0) of the file,
# then by how much the rows grow from one MS row, and from one MS column, to the next, and the columns likewise
Shift = tuple[float, float] | tuple[float, float, float, float, float, float]
STILL: Shift = (0.0, 0.0)


@dataclass(frozen=True)
class Axis:
    """One axis of the common grid.

    Args:
        first: PAN pixel at which the grid begins.
        length: MS px.
        origin: where MS pixel 0 of the grid lies among the pixels (their centres are whole) of the MS file.
        step: from one MS pixel of the grid to the next, in pixels of the MS file.
        slant: the same from one pixel of the grid to the next along the other axis; 0 but for an affine shift.
        pivot: the pixel of the grid, along the other axis, at which `origin` holds.
    """

    first: int
    length: int
    origin: float
    step: float
    slant: float = 0.0
    pivot: float = 0.0

    def positions(self, part: slice) -> np.ndarray:
        """Where MS pixels of the grid lie in the file, on the line through `pivot`."""
        return self.origin + self.step * np.arange(part.start, part.stop)


def common_grid(
    pan: DatasetReader,
    ms: DatasetReader,
    shift: Shift = STILL,
    georeference: bool = True,
) -> tuple[int, Affine, tuple[Axis, Axis]]:
    """Put MS on the grid that begins at a PAN pixel and has the phase of `clippan_lib.mtf`.

    Args:
        pan, ms: the files.
        shift: shift by which MS is moved first.
        georeference: False puts upper left corner on upper left corner, whatever the files say of their place.
    Returns: the ratio, the transform of the grid's PAN pixels, and its rows and columns.
    Raises: DataError naming both files and the numbers seen if they do not fit each other.
    """
    high, low = _transforms(pan, ms) if georeference else _corner_on_corner(pan, ms)
    ratio = _ratio(pan, ms, high, low)
    corner = ((low.f - high.f) / high.e + shift[0], (low.c - high.c) / high.a + shift[1])
    sizes = (low.e / high.e, low.a / high.a)
    axes = (
        _straight(ratio, corner, sizes, pan, ms)
        if len(shift) == 2
        else _slanted(ratio, corner, sizes, shift[2:], pan, ms)
    )
    rows, columns = axes
    if min(rows.length, columns.length) < MIN_SIDE:
        both = rows.length and columns.length
        common = f"have only {rows.length} x {columns.length} MS px in common" if both else "do not overlap"
        raise DataError(
            f"{pan.name} (corners {_corners(pan, high)}) and {ms.name} (corners {_corners(ms, low)}) {common}; "
            f"{MIN_SIDE} x {MIN_SIDE} are needed: give files of one place"
        )
    return ratio, pan.transform @ Affine.translation(columns.first, rows.first), (rows, columns)


def _transforms(pan: DatasetReader, ms: DatasetReader) -> tuple[Affine, Affine]:
    """From pixels to coordinates, of PAN and of MS."""
    both = (pan, ms)
    refuse_unplaced(pan, ms)
    located = [not dataset.transform.is_identity for dataset in both]
    if located[0] != located[1]:
        bare, other = both if located[1] else both[::-1]
        raise DataError(f"{bare.name}: has no georeference, but {other.name} has; give both, or neither, one")
    if not same_crs(pan.crs, ms.crs):
        raise DataError(
            f"{pan.name} is in {pan.crs or 'no CRS'}, {ms.name} in {ms.crs or 'no CRS'}; "
            "assign the missing one, or reproject MS (gdalwarp -t_srs)"
        )
    for dataset in both:
        t, (height, width) = dataset.transform, dataset.shape
        if not (t.a * t.e and np.isfinite(tuple(t)).all()):
            raise DataError(
                f"{dataset.name}: has pixels of {abs(t.a):g} x {abs(t.e):g}, from {t.c:g}, {t.f:g}; write its "
                "georeference anew (gdal_edit.py -a_ullr ULX ULY LRX LRY)"
            )
        if max(abs(t.b) * height, abs(t.d) * width) > TOLERANCE * min(abs(t.a), abs(t.e)):
            raise DataError(
                f"{dataset.name}: is rotated or sheared (transform terms {t.b:g} and {t.d:g} must be 0); "
                "make it north up with gdalwarp"
            )
    return (pan.transform, ms.transform) if any(located) else _whole_multiple(pan, ms)


def _whole_multiple(pan: DatasetReader, ms: DatasetReader) -> tuple[Affine, Affine]:
    ratio = pan.width // ms.width
    if pan.shape != tuple(ratio * side for side in ms.shape):
        raise DataError(
            f"{pan.name}: PAN of {pan.height} x {pan.width} px is no whole multiple of MS of "
            f"{ms.height} x {ms.width} px; without georeference it must be: add one, crop the files, or give "
            "--no-georeference, which fuses what they have in common, upper left corners together"
        )
    return pan.transform, Affine.scale(ratio)


def _corner_on_corner(pan: DatasetReader, ms: DatasetReader) -> tuple[Affine, Affine]:
    """Of files whose sizes are nearly a whole multiple: providers cut PAN and MS apart by some lines."""
    quotients = [high / low for high, low in zip(pan.shape, ms.shape, strict=True)]
    ratio = round(sum(quotients) / 2)
    if max(abs(quotient / ratio - 1) if ratio else 1.0 for quotient in quotients) > SIZES_APART:
        raise DataError(
            f"{pan.name}: PAN of {pan.height} x {pan.width} px is {quotients[0]:.4g} x {quotients[1]:.4g} times MS of "
            f"{ms.height} x {ms.width} px; without georeference both must be nearly one whole number: cut the files "
            "to the same ground"
        )
    refuse_other_ground(pan, ms, ratio)
    return Affine.identity(), Affine.scale(ratio)


def _ratio(pan: DatasetReader, ms: DatasetReader, high: Affine, low: Affine) -> int:
    quotients = low.e / high.e, low.a / high.a
    ratio = round(quotients[0])
    if ratio in RATIOS and all(abs(quotient / ratio - 1) <= RATIO_TOLERANCE for quotient in quotients):
        return ratio
    seen = (
        f"{pan.name} has pixels of {abs(high.e):g} x {abs(high.a):g}, {ms.name} of {abs(low.e):g} x "
        f"{abs(low.a):g}: ratios {quotients[0]:.6g} x {quotients[1]:.6g}"
    )
    if all(abs(quotient) < 1 - RATIO_TOLERANCE for quotient in quotients):
        raise DataError(f"{seen}: MS is finer than PAN; are the two swapped?")
    remedy = "check the georeference"
    smallest = min(quotients)
    if smallest >= 1 - RATIO_TOLERANCE:
        # the next finer one, so that no detail of MS is lost, where there is one
        whole, kernel = min(floor(smallest), RATIOS[-1]), "cubic"
        if whole < RATIOS[0]:
            whole, kernel = RATIOS[0], "average"
            remedy += ", or, if PAN shows finer detail all the same, as SkySat's does, resample MS"
        else:
            remedy += ", or resample MS"
        remedy += (
            f" to {whole} times PAN's pixel: gdalwarp -tr {abs(whole * high.a):.12g} {abs(whole * high.e):.12g} "
            f"-r {kernel} {ms.name} OUTPUT.tif"
        )
    raise DataError(f"{seen}, which must be one whole number from {RATIOS[0]} to {RATIOS[-1]}; {remedy}")


def _straight(
    ratio: int, corner: tuple[float, float], sizes: tuple[float, float], pan: DatasetReader, ms: DatasetReader
) -> tuple[Axis, Axis]:
    rows, columns = (
        _axis(ratio, offset, size, of_pan, of_ms)
        for offset, size, of_pan, of_ms in zip(corner, sizes, pan.shape, ms.shape, strict=True)
    )
    return rows, columns


def _slanted(
    ratio: int,
    corner: tuple[float, float],
    sizes: tuple[float, float],
    grown: tuple[float, ...],
    pan: DatasetReader,
    ms: DatasetReader,
) -> tuple[Axis, Axis]:
    """Axes of an affine shift: each is placed on the line through the middle of MS, and slants along the other."""
    matrix = np.diag(sizes) + np.reshape(grown, (2, 2))  # from MS pixels to PAN pixels
    back, zero = (
        np.linalg.inv(matrix),
        np.array(corner) + 0.5 * np.array(sizes) - 0.5,
    )  # MS pixel (0, 0) in PAN
    middle = zero + matrix @ (np.array(ms.shape) - 1) / 2
    found = []
    for axis in (0, 1):
        other = 1 - axis
        size = 1 / back[axis, axis]
        at = zero[axis] - size * back[axis, other] * (middle[other] - zero[other])
        found.append(_axis(ratio, at + 0.5 - 0.5 * size, size, pan.shape[axis], ms.shape[axis]))
    slants = [ratio * back[axis, 1 - axis] for axis in (0, 1)]
    pivots = [(middle[1 - axis] - found[1 - axis].first - ratio // 2) / ratio for axis in (0, 1)]
    rows, columns = (
        replace(axis, slant=float(slant), pivot=float(pivot))
        for axis, slant, pivot in zip(found, slants, pivots, strict=True)
    )
    return rows, columns


def _corners(dataset: DatasetReader, transform: Affine) -> str:
    x, y = transform.c, transform.f
    ends = (x, y, x + dataset.width * transform.a, y + dataset.height * transform.e)
    return ", ".join(f"{value:.10g}" for value in ends)


def _axis(ratio: int, offset: float, size: float, of_pan: int, of_ms: int) -> Axis:
    """Place one axis: `offset` and `size` of MS are in PAN px, its edge from PAN's edge and its pixel's side."""
    # around the first MS pixel that lies in PAN: a file may claim more of them than memory holds
    near = min(max(ceil((ratio // 2 - offset) / size - 0.5), 0), of_ms - 1)
    centres = offset + size * (np.arange(max(near - 2, 0), min(near + 3, of_ms)) + 0.5) - 0.5
    # of two equally near PAN pixels the later one: with pixel areas aligned, none is lost
    starts = np.floor(centres + 0.5 + TOLERANCE).astype(int) - ratio // 2
    if starts[-1] < 0:
        return Axis(0, 0, 0.0, 1.0)
    first = int(starts[starts >= 0][0])
    origin, step = (first + ratio // 2 - (offset + 0.5 * size - 0.5)) / size, ratio / size
    in_ms = floor((of_ms - 0.5 + TOLERANCE - origin) / step) + 1
    length = max(0, min((of_pan - first) // ratio, in_ms))
    if abs(step - 1) * length < TOLERANCE:
        step = 1.0
    if abs(origin - round(origin)) < TOLERANCE:
        origin = float(round(origin))
    return Axis(first, length, origin, step)
