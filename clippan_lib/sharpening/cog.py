"""A finished GeoTIFF as a cloud optimised one."""

import mmap
from pathlib import Path

import rasterio
from rasterio.shutil import copy

# Masks and overviews are those of the file that is copied; "copy_src_mdd" takes the tags of all domains along
OPTIONS = {
    "driver": "COG",
    "compress": "deflate",
    "predictor": "yes",
    "overviews": "auto",
    "num_threads": "ALL_CPUS",
    "bigtiff": "if_safer",
    "copy_src_mdd": "yes",
}
# Where GDAL copies the tags of all domains it forgets the bands' own, which have none: they travel in this one
TAGS_OF_BANDS = "CLIPPAN_TAGS_OF_A_BAND"


def copy_optimised(path: Path, to: Path, block: int, level: int) -> None:
    """Copy a file; memory stays flat.

    Args:
        path: a whole GeoTIFF; the bands' own tags are in the domain `TAGS_OF_BANDS`.
        to: the copy, in which they are in none.
        block: side of its blocks, px.
        level: compression level of DEFLATE.
    Raises: RasterioError if it cannot be written.
    """
    with rasterio.open(path) as file:
        count = sum(len(file.tags(band, ns=TAGS_OF_BANDS)) for band in file.indexes)
    copy(path, to, blocksize=block, level=level, **OPTIONS)
    if not count:
        return
    # In the file tags are XML: with the name blanked they have no domain, and no byte has moved
    name = f' domain="{TAGS_OF_BANDS}"'.encode()
    with to.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as content:
        at = 0
        for _ in range(count):
            at = content.find(name, at)
            if at < 0:
                break
            content[at : at + len(name)] = b" " * len(name)
