"""A PAN and an MS GeoTIFF as delivered, put on one grid and read by windows.

Deliveries align pixel areas: MS pixel k covers PAN pixels ratio*k to ratio*k + ratio - 1, so that its centre
lies at ratio*k + (ratio - 1)/2. Everything else here puts it on ratio*k + ratio//2 (`clippan_lib.mtf`), half a
PAN pixel further where the ratio is even. PAN is therefore taken as it is, and MS is interpolated at the
positions of the common grid, which begins at the PAN pixel that makes this shift smallest: at most half a PAN
pixel where pixel sizes are whole multiples. Where it is zero, the stored values come back bit by bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import floor
from os.path import isfile
from typing import Literal, TypedDict, Unpack

import numpy as np
import torch
from jaxtyping import Bool
from rasterio import Affine
from rasterio.crs import CRS
from torch import Tensor

from clippan_lib.data.bounds import refuse_hollow
from clippan_lib.data.pair.bands import mask_of, select_bands
from clippan_lib.data.pair.carried import Carried, carried, common_dtype, common_nodata
from clippan_lib.data.pair.fill import look_for_fills
from clippan_lib.data.pair.grid import STILL, Axis, Shift, common_grid
from clippan_lib.data.pair.inputs import located
from clippan_lib.data.pair.interpolation import LOBES, interpolate, interpolate_along_rows
from clippan_lib.data.pair.names import Image, Images
from clippan_lib.data.pair.raster import LIMIT, Raster, alpha_bands, open_raster
from clippan_lib.data.pair.sample import take_sample
from clippan_lib.data.pair.sources import files_read, refuse_missing
from clippan_lib.errors import DataError
from clippan_lib.sensors import Sensor
from clippan_lib.shapes import LRMS, PAN


@dataclass(frozen=True)
class PairWindow:
    """A window of both images, digital numbers as stored (not scaled to [0, 1]), NoData filled.

    Args:
        lrms: (1, c, h, w) float32.
        pan: (1, 1, ratio*h, ratio*w) float32.
        lrms_valid: (1, 1, h, w), False where the MS pixel is NoData in any of the bands.
        pan_valid: (1, 1, ratio*h, ratio*w), False where PAN is NoData.
        corner: its first row and column, MS px of the common grid.
    """

    lrms: LRMS
    pan: PAN
    lrms_valid: Bool[Tensor, "1 1 h w"]
    pan_valid: Bool[Tensor, "1 1 H W"]
    corner: tuple[int, int]

    @property
    def valid(self) -> Bool[Tensor, "1 1 H W"]:
        """Where both images hold data."""
        ratio = self.pan_valid.shape[-1] // self.lrms_valid.shape[-1]
        return self.lrms_valid.repeat_interleave(ratio, -2).repeat_interleave(ratio, -1) & self.pan_valid


@dataclass(frozen=True, eq=False)
class ScenePair:
    """PAN and MS of one place on a common grid, on which MS pixel k lies on PAN pixel ratio*k + ratio//2.

    May be read from several threads at once (no two readers share a file handle) and pickled; memory is that of
    the window, and at most 128 MB of GDAL's blocks.

    Args:
        ratio: PAN-to-MS scale, 2 to 8.
        band_names: band names of MS, in the order of `read`.
        crs: CRS of both files, None if they have none.
        transform: transform of the common grid's PAN pixels.
        dtype: holds the values of all these bands.
        nodata: the value for pixels without data: as the user says, of the bands that declare one, or as found in MS;
            None if there is none, or bands declare several (masks and alpha channels leave it None, too).
        carried: what the files say besides, for an output on this grid.
        remarks: what was assumed of the files, or found in them, in words.
    """

    ratio: int
    band_names: tuple[str, ...]
    crs: CRS | None
    transform: Affine
    dtype: str
    nodata: float | None
    carried: Carried
    remarks: tuple[str, ...]
    _pan: Raster = field(repr=False)
    _ms: Raster = field(repr=False)
    _axes: tuple[Axis, Axis] = field(repr=False)

    @property
    def n_bands(self) -> int:
        return len(self.band_names)

    @property
    def height(self) -> int:
        """Rows of the common grid, MS px."""
        return self._axes[0].length

    @property
    def width(self) -> int:
        """Columns of the common grid, MS px."""
        return self._axes[1].length

    def read(self, rows: slice, columns: slice) -> PairWindow:
        """A window; the same pixels come back, bit by bit, whatever window they are read in.

        MS is interpolated by a Lanczos kernel of eight lobes, clipped to what each band's dtype can hold. NoData,
        and NaN or infinite values, are filled with the nearest valid pixel's values (up to 64 px away, farther
        off 0), so that neither this nor later filters smear them; the file's edge is repeated likewise.

        Args:
            rows, columns: in MS pixels of the common grid; slice(None) is all of them.
        Raises: DataError if the window leaves the scene, or a file turns out to be corrupt.
        """
        parts = tuple(
            self._inside(*given) for given in zip(("rows", "columns"), (rows, columns), strict=True)
        )
        starts = [axis.first + self.ratio * part.start for axis, part in zip(self._axes, parts, strict=True)]
        sides = [self.ratio * (part.stop - part.start) for part in parts]
        high = (range(start, start + side) for start, side in zip(starts, sides, strict=True))
        images = (*self._read_ms(parts), *self._pan.read(*high))
        lrms, lrms_valid, pan, pan_valid = (torch.from_numpy(np.ascontiguousarray(image)) for image in images)
        corner = (parts[0].start, parts[1].start)
        return PairWindow(lrms[None], pan[None], lrms_valid[None, None], pan_valid[None, None], corner)

    @property
    def empty(self) -> str:
        """The first band that holds nothing but NaN, infinite or far too large values, in words; "" if none does."""
        for raster in (self._ms, self._pan):
            for number, values in zip(raster.bands, take_sample(raster).image, strict=True):
                if not (np.abs(values) < LIMIT).any():
                    return (
                        f"{raster.path}: band {number} holds {values.flat[0]!s} and the like, which is no data, in all "
                        f"of {values.size} px that were looked at; leave it out (--bands), or get the file again"
                    )
        return ""

    def in_file(self, place: tuple[float, float]) -> tuple[float, float]:
        """Where a place of the common grid lies among the pixels of the MS file.

        Args:
            place: row and column, MS px, centres being whole.
        """
        row, column = (
            axis.origin + axis.step * at + axis.slant * (other - axis.pivot)
            for axis, at, other in zip(self._axes, place, place[::-1], strict=True)
        )
        return row, column

    def _inside(self, name: str, part: slice) -> slice:
        length = self.height if name == "rows" else self.width
        start, stop = (part.start or 0), (length if part.stop is None else part.stop)
        if part.step not in (None, 1) or not 0 <= start < stop <= length:
            raise DataError(
                f"{self._ms.path}: {name} {start}..{stop} (step {part.step or 1}) are no window of the scene of "
                f"{self.height} x {self.width} MS px; keep within it"
            )
        return slice(start, stop)

    def _read_ms(self, parts: tuple[slice, ...]) -> tuple[np.ndarray, np.ndarray]:
        if any(axis.slant for axis in self._axes):
            return self._read_slanted(parts)
        positions = [axis.positions(part) for axis, part in zip(self._axes, parts, strict=True)]
        spans = [
            range(max(0, floor(at[0]) - LOBES + 1), min(length, floor(at[-1]) + LOBES + 1))
            for at, length in zip(positions, self._ms.size, strict=True)
        ]
        image, valid = self._ms.read(*spans)
        nearest = [
            np.rint(at).astype(int).clip(span.start, span.stop - 1) - span.start
            for at, span in zip(positions, spans, strict=True)
        ]
        for axis, at, span in zip((1, 2), positions, spans, strict=True):
            image = interpolate(image, at - span.start, axis)
        return self._held(image), valid[np.ix_(*nearest)]

    def _read_slanted(self, parts: tuple[slice, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Two passes: along the rows of the file to the columns of the grid, then along these."""
        (rows, columns), lengths = self._axes, self._ms.size
        down, across = (np.arange(part.start, part.stop, dtype=float) for part in parts)
        at_rows = rows.positions(parts[0])[:, None] + rows.slant * (across - rows.pivot)
        at_columns = columns.positions(parts[1]) + columns.slant * (down[:, None] - columns.pivot)
        # of the rows beyond the window a pass uses columns that lie aslant, by less than a pixel
        spans = [
            range(
                max(0, min(floor(at.min()), length) - LOBES),
                min(length, max(floor(at.max()), 0) + LOBES + 2),
            )
            for at, length in zip((at_rows, at_columns), lengths, strict=True)
        ]
        image, valid = self._ms.read(*spans)
        # the row of the grid that a row of the file is on, at each column of the grid
        stored = np.arange(spans[0].start, spans[0].stop)[:, None]
        through = (stored - rows.origin - rows.slant * (across - rows.pivot)) / rows.step
        middle = columns.positions(parts[1]) + columns.slant * (through - columns.pivot)
        image = interpolate_along_rows(image, middle - spans[1].start)
        turned = interpolate_along_rows(image.swapaxes(1, 2), (at_rows - spans[0].start).T)
        nearest = [
            np.rint(at).astype(int).clip(span.start, span.stop - 1) - span.start
            for at, span in zip((at_rows, at_columns), spans, strict=True)
        ]
        return self._held(np.ascontiguousarray(turned.swapaxes(1, 2))), valid[tuple(nearest)]

    def _held(self, image: np.ndarray) -> np.ndarray:
        """Each band within what its dtype in the file holds."""
        for values, band in zip(image, self.carried.bands, strict=True):
            if np.issubdtype(band.dtype, np.integer):
                limits = np.iinfo(band.dtype)
                values.clip(limits.min, limits.max, out=values)
        return image


class Opening(TypedDict, total=False):
    """What a user may say of two files; `open_pair` explains it."""

    bands: Sequence[int] | Sequence[str] | None
    nodata: float | Literal["none"] | None
    georeference: bool


def open_pair(
    ms: Images,
    pan: Image,
    *,
    sensor: Sensor | None = None,
    shift: Shift = STILL,
    **opening: Unpack[Opening],
) -> ScenePair:
    """Open an MS and a PAN file as delivered; headers are read, and a sample of pixels (`look_for_fills`).

    The common grid is the largest of whole MS pixels, `ratio` PAN pixels wide each, that both files cover.
    Beside what only one of them shows, a scene loses less than one MS pixel at each edge. Without any
    georeference the upper left corners are taken to coincide. Overviews are ignored. Values are as stored: scale and
    offset of the header are carried, not applied.

    Args:
        ms, pan: GeoTIFFs (or whatever else GDAL reads), north up, in one CRS; MS may be several files on one grid,
            such as one per band. `inputs.located` has the names that are understood.
        opening: all may be left out.
            `bands`: which of MS and in what order: numbers in the file from 1, or names. Names are looked up in the
            file's descriptions, then in what these and the colour tags say a band is ("B4", "Band 4 - Red", colour
            red). In a file that says nothing, the names of all its bands are taken in its order, and those of some
            as the sensor has them. As many numbers as the sensor has bands say where each of those is. None: those
            of `sensor` that the file has, else all. A band tagged alpha is a mask if its values are those of one.
            `nodata`: the value of pixels without data, in both files, beside what these declare: in MS where all
            bands have it, or one in which it lies far outside of all other values. "none": there is no such value.
            None: one is looked for.
            `georeference`: False puts upper left corner on upper left corner, whatever the files say of their place.
        sensor: names the bands: by what the file says of them, else in file order.
        shift: shift by which MS is moved down and right: where PAN lies off MS.
    Raises: DataError naming the numbers seen where the files are unreadable, claim values that they cannot hold, lie on
        another machine or do not fit each other, or MS lacks the bands or has only one.
    """
    ms, pan = located(ms), located(pan)
    with open_raster(pan) as high, open_raster(ms) as low:
        for path in (ms, pan):
            refuse_missing(path)
        alpha = alpha_bands(high)
        of_pan = tuple(number for number in high.indexes if number not in alpha)
        if len(of_pan) != 1:
            raise DataError(
                f"{pan}: PAN has {len(of_pan)} bands, not one; are PAN and MS swapped? Else extract its band"
            )
        chosen = select_bands(low, opening.get("bands"), sensor)
        ratio, transform, axes = common_grid(high, low, shift, opening.get("georeference", True))
        for path, file, scale in ((ms, low, 1), (pan, high, ratio)):
            pixels = scale**2 * axes[0].length * axes[1].length
            # what is in no file of the system cannot be weighed
            if stored := [*filter(isfile, files_read(path))]:
                refuse_hollow(path, pixels * sum(np.dtype(dtype).itemsize for dtype in file.dtypes), stored)
        if sensor is not None and ratio != sensor.ratio:
            raise DataError(
                f"{pan} and {ms} have ratio {ratio}, but sensor {sensor.name} has {sensor.ratio}; correct `sensor`"
            )
        files = (
            Raster(pan, of_pan, tuple(alpha), True, high.shape),
            Raster(ms, chosen.numbers, *mask_of(low, chosen.numbers), low.shape),
        )
        # before pixels are looked at: GDAL keeps an error of a damaged block for whoever asks next
        said = carried(low, high, chosen.numbers, of_pan[0], ratio, axes)
        given = opening.get("nodata")
        looked = look_for_fills(*files, axes, ratio, given)
        files = (
            replace(files[0], fills=looked.pan, most=looked.most[0]),
            replace(files[1], fills=looked.ms, most=looked.most[1]),
        )
        declared = [low.nodatavals[number - 1] for number in chosen.numbers]
        declares = given in (None, "none") and any(value is not None for value in declared)
        nodata = common_nodata(declared) if declares else looked.nodata
        dtype = common_dtype([low.dtypes[number - 1] for number in chosen.numbers])
        remarks = (*chosen.remarks, *looked.remarks)
        return ScenePair(ratio, chosen.names, high.crs, transform, dtype, nodata, said, remarks, *files, axes)
