"""Which files GDAL reads when it reads one."""

import warnings
from collections.abc import Iterable
from pathlib import Path

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from clippan_lib.files import file_state

States = dict[str, list[int] | str | None]


def files_read(path: str | Path) -> list[str]:
    """A file and all that GDAL reads with it: the files behind a VRT, headers in sidecar files, and so on.

    Args:
        path: of a file; of one that GDAL cannot read, the file itself is all there is.
    Returns: names as GDAL gives them, the file itself first; a source that is missing is not among them.
    """
    found: dict[str, None] = {}
    waiting = [str(path)]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                with rasterio.open(name) as dataset:
                    waiting += dataset.files  # a VRT names its sources, and not what belongs to those
        except RasterioError:
            continue
    return list(found)


def states_read(paths: Iterable[str | Path]) -> States:
    """Size and time of every file that GDAL reads with some files: equal as long as the data are the same.

    Args:
        paths: of files.
    Returns: name to `file_state`.
    """
    return {name: file_state(name) for path in paths for name in files_read(path)}
