"""A fused scene, streamed tile by tile into one GeoTIFF that appears only when it is whole."""

import os
import re
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import rasterio
import torch
from jaxtyping import Bool, Float, Shaped
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.io import DatasetWriter
from rasterio.windows import Window
from torch import Tensor

from clippan_lib.data.pair.carried import Carried
from clippan_lib.errors import OutputError
from clippan_lib.shapes import Progress
from clippan_lib.sharpening.cog import TAGS_OF_BANDS, copy_optimised
from clippan_lib.sharpening.header import write_header

Driver = Literal["GTiff", "COG"]

DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
BLOCK = 256  # px
LEVEL = 1  # of DEFLATE: on measured scenes no larger than the default, 6, in less than half of its time
SMALLEST_SIDE = 256  # px; overviews end with the first whose smaller side is below
LAYOUT = {
    "driver": "GTiff",
    "tiled": True,
    "blockxsize": BLOCK,
    "blockysize": BLOCK,
    "interleave": "pixel",
    "num_threads": "ALL_CPUS",
    "bigtiff": "if_safer",
}
COMPRESSION = {"compress": "deflate", "zlevel": LEVEL}
SETTINGS = {
    "GDAL_CACHEMAX": 2**26,  # bytes; GDAL's own default is a share of the machine's memory
    "GDAL_NUM_THREADS": "ALL_CPUS",
    "GDAL_TIFF_INTERNAL_MASK": True,
    "ZLEVEL_OVERVIEW": LEVEL,
}
SIDE_FILES = (".aux.xml", ".msk", ".ovr")  # what GDAL reads beside a file


@dataclass(frozen=True)
class SceneTile:
    """A finished part of a scene.

    Args:
        row, column: row and column of its upper left corner, PAN px.
        image: (c, h, w), digital numbers of the file's dtype.
        valid: (h, w), False where there is NoData; None where there is none.
    """

    row: int
    column: int
    image: Shaped[np.ndarray, "c h w"]
    valid: Bool[np.ndarray, "h w"] | None


def to_dtype(image: Float[Tensor, "1 c H W"], dtype: str) -> Shaped[np.ndarray, "c H W"]:
    """Digital numbers as they are stored: as integers rounded, half to even, and clipped to what dtype holds.

    Args:
        image: digital numbers, on any device.
        dtype: one of DTYPES.
    Raises: ValueError on another dtype, or if a value is NaN or infinite.
    """
    _check_dtype(dtype)
    # the extremes are NaN where any value is, and ten times faster than `isfinite`
    if not torch.stack(image.aminmax()).isfinite().all():
        raise ValueError(
            f"{int((~image.isfinite()).sum())} fused values are NaN or infinite, which is a bug of the method; "
            "report it"
        )
    kind = getattr(torch, dtype)
    if not kind.is_floating_point:
        limits = torch.iinfo(kind)
        # float32 does not hold the limits of 32 bits
        image = (image.double() if limits.bits == 32 else image).round().clamp_(limits.min, limits.max)
    return image[0].to(kind).cpu().numpy()


def record_of(path: Path) -> Path:
    """Where it stands what an output was made of: NAME.clippan.json beside NAME.tif."""
    name = path.stem if path.suffix.lower() in (".tif", ".tiff") else path.name
    return path.with_name(f"{name}.clippan.json")


def target_of(path: str | Path) -> Path:
    """The file that an output becomes: where a link is, what it points to."""
    return Path(os.path.realpath(path))


def comparison_of(path: Path) -> Path:
    """Where it is kept how methods compared, until the output that the best of them makes is there."""
    return path.with_name(f".{path.name}.compared.json")


def written_with(path: Path) -> list[Path]:
    """An output, and every file beside it that is written, or removed, with it."""
    beside = [path.with_name(path.name + suffix) for suffix in SIDE_FILES]
    return [path, record_of(path), comparison_of(path), *beside, *_left_behind(path)]


def _left_behind(path: Path) -> list[Path]:
    """What killed writers of an output left."""
    left = re.compile(rf"\.{re.escape(path.name)}\.\d+(\.cog)?\.part")
    return [beside for beside in path.parent.iterdir() if left.fullmatch(beside.name)]


def write_scene(
    path: Path,
    tiles: Iterable[SceneTile],
    *,
    height: int,
    width: int,
    bands: Sequence[str],
    dtype: str,
    nodata: float | None,
    crs: CRS | None,
    transform: Affine,
    tags: Mapping[str, str],
    carried: Carried | None = None,
    driver: Driver = "GTiff",
    progress: Progress | None = None,
) -> None:
    """Write a tiled, compressed GeoTIFF with averaged overviews; an older one stays until this is whole.

    Memory is that of a tile and of GDAL's cache, and where a mask may be needed a bit per pixel, compressed.
    Tiles whose borders fall on those of blocks are compressed once; others fill the cache with parts of blocks.
    What a killed writer of the same file left is removed.

    Args:
        tiles: all of the scene, each once: from left to right, row by row; those of a row equally high.
        height, width: PAN px.
        bands: their names; red, green and blue are marked as such, and a band without a description has its name.
        dtype: one of DTYPES.
        nodata: the value of invalid pixels; a valid pixel of this value takes the one next to it. Without
            one, or with one that dtype cannot hold, an internal mask marks invalid pixels if there are any.
        transform: transform of PAN pixels.
        tags: tags of the dataset.
        carried: what the files say of these bands and of this grid; None: nothing. Where RPCs or GCPs are all that
            tells the place, no transform is written.
        driver: "COG" for a cloud optimised GeoTIFF, which takes as much room again, uncompressed, while it is made.
        progress: called with ("writing", rows written, height, {}).
    Raises: OutputError if the file cannot be written whole. ValueError if dtype is another one, or the tiles
        are not those of such a scene.
    """
    _check_dtype(dtype)
    nodata = _stored_nodata(nodata, dtype)
    layout = {
        **LAYOUT,
        "height": height,
        "width": width,
        "count": len(bands),
        "dtype": dtype,
        "nodata": nodata,
        "crs": crs,
        "transform": transform,
    }
    if driver == "GTiff":  # of the other one all blocks are compressed anew in the end
        layout |= {**COMPRESSION, "predictor": 3 if dtype.startswith("float") else 2}
    if carried is not None and carried.bare:
        layout |= {"crs": None, "transform": None}
    tiles = _checked(tiles, (len(bands), height, width), dtype)
    with _whole_or_not_there(path) as part, rasterio.Env(**SETTINGS):
        with rasterio.open(part, "w", **layout) as dataset:
            write_header(dataset, bands, tags, carried, TAGS_OF_BANDS if driver == "COG" else None)
            mask = _write_image(dataset, tiles, progress)
        images = _finish(part, mask)
        if driver == "COG":
            _optimise(part, images)


def _check_dtype(dtype: str) -> None:
    if dtype not in DTYPES:
        raise ValueError(f"images of dtype {dtype!r} cannot be written; choose one of {', '.join(DTYPES)}")


def _stored_nodata(nodata: float | None, dtype: str) -> float | int | None:
    """NoData as dtype holds it, None if it cannot."""
    if nodata is None:
        return None
    if dtype.startswith("float"):
        with np.errstate(over="ignore"):
            stored = float(np.dtype(dtype).type(nodata))
        return None if np.isinf(stored) and not np.isinf(nodata) else stored
    limits = np.iinfo(dtype)
    return int(nodata) if limits.min <= nodata <= limits.max and nodata == int(nodata) else None


@contextmanager
def _whole_or_not_there(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`: on success the file takes its place, on any error it is removed."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        _replace(path, part)
    except RasterioError as error:
        raise _refusal(path, error.__cause__ or error) from error
    finally:
        part.unlink(missing_ok=True)


def _replace(path: Path, part: Path) -> None:
    try:
        with part.open("r+b") as file:  # Windows flushes only what may be written
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise _refusal(path, error) from error
    for suffix in SIDE_FILES:  # they speak of the file that was there before
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    record_of(path).unlink(missing_ok=True)
    for beside in _left_behind(path):
        beside.unlink(missing_ok=True)


def _refusal(path: Path, reason: BaseException) -> OutputError:
    return OutputError(
        f"{path}: cannot be written ({reason}); make room on its disk, or name a file in a folder that can be "
        "written"
    )


def _checked(tiles: Iterable[SceneTile], shape: tuple[int, int, int], dtype: str) -> Iterator[SceneTile]:
    """The tiles, as long as they make up the scene."""
    _, height, width = shape
    row = column = of_row = 0
    for tile in tiles:
        _check_tile(tile, (row, column), of_row if column else None, shape, dtype)
        yield tile
        _, of_row, w = tile.image.shape
        column += w
        if column == width:
            row, column = row + of_row, 0
    if (row, column) != (height, 0):
        raise ValueError(
            f"tiles end at row {row}, column {column} of {height} x {width} px; give all of them"
        )


def _check_tile(
    tile: SceneTile, at: tuple[int, int], of_row: int | None, shape: tuple[int, int, int], dtype: str
) -> None:
    c, h, w = tile.image.shape
    fits = (tile.row, tile.column) == at and c == shape[0] and at[0] + h <= shape[1] and at[1] + w <= shape[2]
    if not fits or 0 in (h, w) or h != (of_row or h) or tile.image.dtype != dtype:
        raise ValueError(
            f"tile of shape {c, h, w}, {tile.image.dtype}, at {tile.row, tile.column} is not the one at {at} of "
            f"a scene of shape {shape}, {dtype}; give tiles from left to right, row by row, those of a row "
            "equally high"
        )


def _marked(tile: SceneTile, nodata: float | int | None) -> Shaped[np.ndarray, "c h w"]:
    """The tile's image, NoData filled in."""
    if nodata is None:
        return tile.image
    image, clash = tile.image, tile.image == nodata
    if clash.any():
        image = np.where(clash, _beside(nodata, image.dtype), image)
    return image if tile.valid is None else np.where(tile.valid, image, image.dtype.type(nodata))


def _beside(nodata: float | int, dtype: np.dtype) -> np.generic:
    """The value next to NoData; of floats, the next that GDAL, which compares all in float32, tells apart."""
    if np.issubdtype(dtype, np.integer):
        return dtype.type(nodata + 1 if nodata < np.iinfo(dtype).max else nodata - 1)
    return dtype.type(nodata * (1 - 2**-19) if nodata else np.finfo(dtype).tiny)


def _write_image(
    dataset: DatasetWriter, tiles: Iterable[SceneTile], progress: Progress | None
) -> list[tuple[Window, bytes]]:
    """Returns: the packed mask of each tile; empty if none is needed."""
    packed, masked = [], False
    for tile in tiles:
        _, h, w = tile.image.shape
        window = Window(tile.column, tile.row, w, h)
        dataset.write(_marked(tile, dataset.nodata), window=window)
        if dataset.nodata is None:
            valid = np.ones((h, w), bool) if tile.valid is None else tile.valid
            packed.append((window, zlib.compress(np.packbits(valid).data, 1)))
            masked |= not valid.all()
        if progress is not None and tile.column + w == dataset.width:
            progress("writing", tile.row + h, dataset.height, {})
    return packed if masked else []


def _finish(part: Path, mask: list[tuple[Window, bytes]]) -> int:
    """Add mask and overviews, and look whether all is there; returns how many images the file then holds.

    The file must have been closed: GDAL's compressing threads use memory that it frees when a mask is made.
    """
    _check_whole(part, 1)
    with rasterio.open(part, "r+") as dataset:
        for window, packed in mask:
            shape = window.height, window.width
            bits = np.unpackbits(np.frombuffer(zlib.decompress(packed), np.uint8), count=shape[0] * shape[1])
            dataset.write_mask(255 * bits.reshape(shape), window=window)
        levels = (min(dataset.shape) // SMALLEST_SIDE).bit_length()
        # Not from the tiles as they pass: an overview that is opened for writing is compressed at DEFLATE's level 6,
        # which takes longer than all that GDAL does here
        if levels:
            dataset.build_overviews([2**level for level in range(1, levels + 1)], Resampling.average)
    images = (1 + levels) * (2 if mask else 1)
    _check_whole(part, images)
    return images


def _optimise(part: Path, images: int) -> None:
    """Put a cloud optimised copy in the place of a file."""
    optimised = part.with_suffix(".cog.part")
    try:
        copy_optimised(part, optimised, BLOCK, LEVEL)
        _check_whole(optimised, images)
        os.replace(optimised, part)
    finally:
        optimised.unlink(missing_ok=True)


def _check_whole(part: Path, images: int) -> None:
    """Refuse a file that lacks blocks: GDAL's threads, overviews and closing do not tell of a full disk."""
    size = part.stat().st_size
    for number in range(1, images + 1):
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", NotGeoreferencedWarning
            )  # overviews have no georeference of their own
            image = rasterio.open(f"GTIFF_DIR:{number}:{part}")
        with image:
            for (row, column), _ in image.block_windows(1):
                names = (f"BLOCK_{what}_{column}_{row}" for what in ("OFFSET", "SIZE"))
                found = [image.get_tag_item(name, "TIFF", bidx=1) for name in names]
                if None in found or sum(map(int, found)) > size:
                    raise RasterioIOError(f"block {row}, {column} of image {number} of {images} was lost")
