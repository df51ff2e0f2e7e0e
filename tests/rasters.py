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
