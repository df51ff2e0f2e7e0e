"""GeoTIFFs for tests: grids whose positions are given in PAN pixels, and files with any layout."""

from pathlib import Path

import numpy as np
import rasterio
from rasterio import Affine

CORNER = (448_123.4, 5_412_678.9)  # of PAN, m, UTM
PIXEL = 0.5  # of PAN, m


def grid(size: float = 1.0, rows: float = 0.0, columns: float = 0.0) -> Affine:
    """A grid whose pixels are `size` PAN pixels wide and whose corner lies at these PAN pixels."""
    left, top = CORNER[0] + PIXEL * columns, CORNER[1] - PIXEL * rows
    return Affine(PIXEL * size, 0, left, 0, -PIXEL * size, top)


def save(path: Path, image: np.ndarray, transform: Affine | None, crs: str | None = "EPSG:32632", **options):
    """A GeoTIFF of (c, h, w) values."""
    mask, names, meanings = (options.pop(key, ()) for key in ("mask", "names", "meanings"))
    shape = dict(zip(("count", "height", "width"), image.shape, strict=True))
    geo = {"transform": transform, "crs": crs} if transform is not None else {}
    if "gcps" in options:
        geo = {"crs": crs}
    with rasterio.open(path, "w", driver="GTiff", dtype=image.dtype, **shape, **geo, **options) as file:
        if meanings:
            file.colorinterp = meanings
        file.write(image)
        for band, name in enumerate(names, 1):
            file.set_band_description(band, name)
        if len(mask):
            file.write_mask(mask)
    return path


def noise(*shape: int, dtype=np.uint16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 120, shape).astype(dtype)


def stacked(path: Path, sources: list[str], side: int, types: list[str], nodata=()) -> Path:
    """A VRT on the grid of an MS of `side` px: one band for the first band of each source, named from its folder."""
    values = [*nodata, *[None] * (len(sources) - len(nodata))]
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{number}">'
        + (f"<NoDataValue>{value}</NoDataValue>" if value is not None else "")
        + f'<ComplexSource><SourceFilename relativeToVRT="1">{source}</SourceFilename><SourceBand>1</SourceBand>'
        + (f"<NODATA>{value}</NODATA>" if value is not None else "")
        + "</ComplexSource></VRTRasterBand>"
        for number, (source, kind, value) in enumerate(zip(sources, types, values, strict=True), 1)
    )
    place = ", ".join(map(str, grid(4).to_gdal()))
    path.write_text(
        f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}"><SRS>EPSG:32632</SRS>'
        f"<GeoTransform>{place}</GeoTransform>{bands}</VRTDataset>"
    )
    return path
