"""xarray's DataArrays in, one out: for scenes that are no files yet, or larger than memory (Dask)."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import rasterio
import rioxarray
import xarray as xr
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import DatasetWriter
from rasterio.windows import Window

from clippan_lib.errors import DataError, OutputError
from clippan_lib.shapes import Progress
from clippan_lib.sharpening.job import plan_job
from clippan_lib.sharpening.output import BLOCK
from clippan_lib.sharpening.passes import sharpen

_EVEN = 1e-3  # of a pixel, by which the coordinates of pixels may lie off even steps
# What GDAL writes of pixels that are others now, and what the output says itself
_NOT_KEPT = ("STATISTICS_", "long_name", "scale_factor", "add_offset", "scales", "offsets", "_FillValue")


def sharpen_dataarrays(
    ms: xr.DataArray,
    pan: xr.DataArray,
    method: str | Path = "gsa",
    *,
    out: str | Path | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> xr.DataArray:
    """Fuse two DataArrays, as `plan_job` and `sharpen` fuse two files.

    Place and NoData value are those of their accessor `rio`; NaN never is data. Names of the bands are those of a
    coordinate "band" of strings, or else of the attribute "long_name". Both are written, chunk by chunk, to files in a
    temporary folder that goes again: neither input nor output is ever whole in memory if `out` is given.

    Args:
        ms: (band, y, x), digital numbers, reflectance or any other unit.
        pan: (y, x) or (1, y, x).
        method, options: as for `plan_job`.
        out: a GeoTIFF that is left, with NAME.clippan.json beside it; what is returned is read from it when it is asked
            for, in Dask's chunks if MS or PAN has some. None: the result is returned in memory.
        progress: as for `sharpen`.
    Returns: (band, y, x) on the pixels of PAN, in the dtype of MS, with its name and attributes. Warnings that the
        command would print are given as `UserWarning`.
    Raises: DataError on other dimensions, uneven coordinates, or a Dask array without `out`; OutputError if the folder
        of `out` is missing; else as `plan_job` and `sharpen` do.
    """
    lazy = ms.chunks is not None or pan.chunks is not None
    if out is None and lazy:
        raise DataError(
            "MS or PAN is a Dask array, which may be larger than memory, and so is the result; name a file for it (out)"
        )
    beside = None if out is None else Path(out).absolute().parent
    if beside is not None and not beside.is_dir():
        raise OutputError(f"{beside}: no such folder; make it, or name an output in another")
    with TemporaryDirectory(prefix=".clippan.", dir=beside) as name:
        folder = Path(name)
        files = _written(ms, folder / "ms.tif", "MS"), _written(pan, folder / "pan.tif", "PAN")
        job = plan_job(*files, method, **options)
        for remark in job.remarks:
            if remark.startswith("Warning: "):
                warnings.warn(remark.removeprefix("Warning: "), stacklevel=2)
        kept = folder / "hrms.tif" if out is None else Path(out)
        sharpen(job, kept, progress=progress)
        fused = _opened(kept, lazy, ms, job.pair.band_names)
        return fused.load() if out is None else fused


def _written(image: xr.DataArray, path: Path, what: str) -> Path:
    """As a GeoTIFF in the dtype of the array."""
    image = _of_bands(image, what)
    count, height, width = image.shape
    floating = np.issubdtype(image.dtype, np.floating)
    layout = {
        "driver": "GTiff",
        "count": count,
        "height": height,
        "width": width,
        "dtype": image.dtype,
        "nodata": np.nan if floating and image.rio.nodata is None else image.rio.nodata,
        "crs": image.rio.crs,
        "transform": image.rio.transform(recalc=True),
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "bigtiff": "if_safer",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **layout) as dataset:
            dataset.descriptions = _names(image)
            dataset.scales = _per_band(image, "scale_factor", "scales", 1.0)
            dataset.offsets = _per_band(image, "add_offset", "offsets", 0.0)
            _write_values(image, dataset)
    return path


def _of_bands(image: xr.DataArray, what: str) -> xr.DataArray:
    """(band, y, x), whatever the dimensions are called; refuses what is no image."""
    try:
        across, down = image.rio.x_dim, image.rio.y_dim
    except rioxarray.exceptions.MissingSpatialDimensionError as error:
        raise DataError(
            f"{what} has dimensions {image.dims}, of which none are known as y and x; say which with "
            'rio.set_spatial_dims("x name", "y name")'
        ) from error
    others = [name for name in image.dims if name not in (across, down)]
    if len(others) > 1:
        raise DataError(
            f"{what} has dimensions {image.dims}, and not (band, y, x); choose one of each of the others, such as "
            ".isel(time=0)"
        )
    for name in (down, across):
        steps = np.diff(image[name].astype(float)) if name in image.coords else np.ones(1)
        if steps.size and np.ptp(steps) > _EVEN * abs(steps.mean()):
            raise DataError(
                f"{what}: coordinates {name} grow by {steps.min():g} to {steps.max():g}, and not evenly; give an image "
                "of square pixels on one grid"
            )
    image = image if others else image.expand_dims("band")
    return image.transpose(..., down, across)


def _names(image: xr.DataArray) -> Sequence[str | None]:
    """Of the bands: descriptions of a file."""
    first = image.coords.get(image.dims[0])
    if first is not None and first.dtype.kind in "UO":
        return [str(name) for name in first.values]
    said = image.attrs.get("long_name")
    return said if isinstance(said, (list, tuple)) and len(said) == len(image) else [None] * len(image)


def _per_band(image: xr.DataArray, one: str, several: str, usual: float) -> Sequence[float]:
    """What rioxarray read of a header: one number for all bands, or several."""
    return image.attrs.get(several, [image.attrs.get(one, usual)] * len(image))


def _write_values(image: xr.DataArray, dataset: DatasetWriter) -> None:
    if image.chunks is None:
        dataset.write(image.values)
        return

    class Into:
        """What Dask fills, chunk by chunk."""

        def __setitem__(self, place: tuple[slice, slice, slice], values: np.ndarray) -> None:
            bands, rows, columns = place
            window = Window(columns.start, rows.start, values.shape[2], values.shape[1])
            dataset.write(values, [*range(bands.start + 1, bands.stop + 1)], window=window)

    image.data.store(Into(), lock=True)


def _opened(path: Path, lazy: bool, ms: xr.DataArray, names: Sequence[str]) -> xr.DataArray:
    # NaN marks what the array itself marks so; another value stays a value
    masked = np.issubdtype(ms.dtype, np.floating) and (ms.rio.nodata is None or np.isnan(ms.rio.nodata))
    chunks = {"band": -1, "y": 4 * BLOCK, "x": 4 * BLOCK} if lazy else None
    fused = cast(xr.DataArray, rioxarray.open_rasterio(path, masked=masked, chunks=chunks))
    kept = {name: value for name, value in ms.attrs.items() if not str(name).startswith(_NOT_KEPT)}
    fused = fused.assign_attrs(kept | fused.attrs).rename(ms.name)
    if "band" in ms.coords and ms["band"].dtype.kind in "UO":
        fused = fused.assign_coords(band=list(names))
    return fused
