"""One raster file read by windows, from any thread, its pixels without data filled."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from os.path import isfile
from pathlib import Path

import numpy as np
import rasterio
import scipy  # its parts are imported when they are asked for
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.windows import Window

from clippan_lib.data.pair.names import Location, refuse_remote, unopened
from clippan_lib.errors import DataError

LIMIT = 1e19  # values from here on stand for no data (1e20, -3.4e38): float32 cannot hold their squares
REACH = 64  # px round valid ones in which NoData is filled: farther than any filter here reaches
CACHE_BYTES = (
    2**27
)  # holds a row of windows of untiled files; GDAL's own default is a share of the machine's memory


class _Called(rasterio.DatasetReader):
    """A dataset that messages call by the names of its files."""

    words = ""

    @property
    def name(self) -> str:
        return self.words


def open_raster(path: Location) -> rasterio.DatasetReader:
    """Raises: DataError if the file is missing, truncated, no raster at all, on another machine, without bands or of
    complex values.
    """
    if isinstance(path, Path) and not isfile(path):
        raise DataError(f"{path}: no such file; correct the path")
    try:
        if isinstance(path, Path):
            dataset = rasterio.open(path)
        else:
            with rasterio.Env():
                dataset = _Called(path.opened)
            dataset.words = str(path)
    except RasterioError as error:
        raise unopened(path, error) from error
    refuse_remote(str(path), dataset.driver)
    if not dataset.count:
        found = dataset.subdatasets
        more = f" and {len(found) - 8} more" if len(found) > 8 else ""
        raise DataError(
            f"{path}: holds several images, and not one; give one by its name: {', '.join(found[:8])}{more}"
        )
    for number, dtype in zip(dataset.indexes, dataset.dtypes, strict=True):
        if "complex" in dtype:
            raise DataError(
                f"{path}: values of band {number} are {dtype}, not real numbers; store their magnitude"
            )
    return dataset


def alpha_bands(dataset: rasterio.DatasetReader) -> set[int]:
    """Numbers, from 1, of the bands said to be an alpha channel."""
    meanings = zip(dataset.indexes, dataset.colorinterp, strict=True)
    return {number for number, meaning in meanings if meaning == ColorInterp.alpha}


@dataclass(frozen=True)
class Fill:
    """Values that stand for no data, although the file does not say so.

    Args:
        values: values of each band; NaN for a band in which none does.
        every: True if only a pixel that has them in all bands is invalid, False if one band is enough.
    """

    values: tuple[float, ...]
    every: bool

    def marks(self, image: np.ndarray) -> np.ndarray:
        """Which pixels (h, w) of an image (c, h, w) have them."""
        same = image == np.array(self.values, np.float32)[:, None, None]
        return same.all(0) if self.every else same.any(0)


@dataclass(frozen=True, eq=False)
class Raster:
    """Some bands of a file.

    May be read from several threads at once: each read takes an idle handle, or opens one, and leaves it, with
    the blocks that GDAL has decoded, to the next. Copies that were pickled open their own.

    Args:
        path: any raster that GDAL reads, from `inputs.located`.
        bands: numbers from 1.
        alpha: numbers of the alpha channels: where one is 0 the pixel is invalid.
        masked: False to ignore the file's NoData value and mask.
        size: rows and columns of the file.
        fills: what else stands for no data.
        most: the largest magnitude that can be data.
    """

    path: Location
    bands: tuple[int, ...]
    alpha: tuple[int, ...]
    masked: bool
    size: tuple[int, int]
    fills: tuple[Fill, ...] = ()
    most: float = LIMIT
    _idle: list[rasterio.DatasetReader] = field(default_factory=list, init=False, repr=False)

    def __reduce__(self) -> tuple:
        return type(self), (self.path, self.bands, self.alpha, self.masked, self.size, self.fills, self.most)

    def read(self, rows: range, columns: range) -> tuple[np.ndarray, np.ndarray]:
        """A window inside the file.

        A pixel is invalid that the file declares so in any band, that is NaN, infinite or beyond `LIMIT` in any
        band, or that one of `fills` marks. It takes the values of the valid pixel
        nearest to it, up to `REACH` px away, or else 0: this depends on its surroundings alone, so that
        overlapping windows agree.

        Returns: (c, h, w) float32 values, and their (h, w) validity.
        Raises: DataError if the file is corrupt there, or holds values beyond `most`.
        """
        image, valid = self._stored(rows, columns)
        if valid.all():
            return image, valid
        inner, wide = zip(*map(_widened, (rows, columns), self.size), strict=True)
        image, valid = self._stored(*wide)
        return _fill(image, valid)[:, *inner], valid[inner]

    def _stored(self, rows: range, columns: range) -> tuple[np.ndarray, np.ndarray]:
        image, valid = self.declared(rows, columns)
        size = np.abs(image)
        valid &= np.all(size < LIMIT, axis=0)  # False for NaN, too
        for fill in self.fills:
            valid &= ~fill.marks(image)
        if (size > self.most).any():
            self._refuse_absurd(image, valid & (size > self.most))
        return image, valid

    def _refuse_absurd(self, image: np.ndarray, beyond: np.ndarray) -> None:
        """Args: beyond: (c, h, w), which values are data, as far as is known, and cannot be."""
        for number, values, where in zip(self.bands, image, beyond, strict=True):
            if where.any():
                value = values[where][np.abs(values[where]).argmax()]
                raise DataError(
                    f"{self.path}: band {number} holds {value!s} in {int(where.sum())} of {where.size} px that were "
                    "read, more than a million times what is usual in the file, which no method can reckon with; if it "
                    f"stands for no data, say so (--nodata={value!s}), else correct the file"
                )

    def declared(self, rows: range, columns: range) -> tuple[np.ndarray, np.ndarray]:
        """A window's stored values, and which pixels are valid as far as the file itself says.

        Returns: (c, h, w) float32, and (h, w).
        Raises: DataError if the file is corrupt there.
        """
        window = Window(columns.start, rows.start, len(columns), len(rows))
        try:
            with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), self._handle() as dataset:
                parts = [
                    dataset.read(numbers, window=window, masked=self.masked)
                    for numbers in self._alike(dataset)
                ]
        except RasterioError as error:
            raise DataError(
                f"{self.path}: rows {rows.start} to {rows.stop - 1}, columns {columns.start} to "
                f"{columns.stop - 1} cannot be read ({error.__cause__ or error}); "
                "truncated or corrupt, get it again"
            ) from error
        with np.errstate(over="ignore"):  # of float64; what becomes infinite is beyond `LIMIT`
            values = np.concatenate(
                [np.ma.getdata(part) for part in parts], dtype=np.float32, casting="unsafe"
            )
        missing = np.concatenate([np.ma.getmaskarray(part) for part in parts])
        image, alpha = np.split(values, [len(self.bands)])
        return image, ~missing[: len(image)].any(0) & np.all(alpha > 0, axis=0)

    def _alike(self, dataset: rasterio.DatasetReader) -> list[list[int]]:
        """The numbers of all bands in runs of one type, which is what can be read at once."""
        numbers = (*self.bands, *self.alpha)
        return [list(run) for _, run in groupby(numbers, lambda number: dataset.dtypes[number - 1])]

    @contextmanager
    def _handle(self) -> Iterator[rasterio.DatasetReader]:
        try:
            dataset = self._idle.pop()
        except IndexError:
            dataset = open_raster(self.path)
        yield dataset
        self._idle.append(dataset)


def _widened(part: range, length: int) -> tuple[slice, range]:
    """A window's side with `REACH` round it, and where the side is in that."""
    wide = range(max(0, part.start - REACH), min(length, part.stop + REACH))
    return slice(part.start - wide.start, part.stop - wide.start), wide


def _fill(image: np.ndarray, valid: np.ndarray) -> np.ndarray:
    if not valid.any():
        return np.zeros_like(image)
    distance, (rows, columns) = scipy.ndimage.distance_transform_edt(~valid, return_indices=True)
    return np.where(distance <= REACH, image[:, rows, columns], np.float32(0))
