"""Which files GDAL reads when it reads one."""

import re
import warnings
from collections.abc import Iterable
from os.path import isfile
from pathlib import Path
from xml.etree import ElementTree

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from clippan_lib.data.below import is_below
from clippan_lib.data.pair.names import Image, Location, file_of, parts_of, refuse_remote
from clippan_lib.data.pair.raster import open_raster
from clippan_lib.errors import DataError
from clippan_lib.files import file_state

States = dict[str, list[int] | str | None]
# Beside NAME.tif: what begins with NAME.tif or with NAME, and goes on like this, speaks of that image
_BESIDE = re.compile(
    r"(\.(aux(\.xml)?|ovr|msk|rrd|hdr|xml|prj|tfw|tifw|tiffw|wld|j2w|imd|rpb|rpc|pvl|til|ati|att|eph|geo|pix)"
    r"|_?(rpc|mtl|metadata)\.(txt|xml))+",
    re.IGNORECASE,
)
_NO_FILE = re.compile(r"/vsi|\w{2,}:")  # of GDAL's own file systems, part of a file, or an address


def files_read(path: Image) -> list[str]:
    """A file and all that GDAL reads with it: the files behind a VRT, headers in sidecar files, archives, and so on.

    Args:
        path: path of an image; for an image that GDAL cannot read, only the file itself is given.
    Returns: names as GDAL gives them, the file itself, or that of the first band, first; a source that is missing is
        not among them.
    """
    found: dict[str, None] = {}
    waiting = [*reversed(parts_of(path))]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = None
        if not isfile(name) and (file := file_of(name)):
            waiting.append(str(file))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                with rasterio.open(name) as dataset:
                    waiting += dataset.files  # a VRT names its sources, and not what belongs to those
        except RasterioError:
            continue
    return list(found)


def files_of(paths: Iterable[Image]) -> list[Path]:
    """Every file of the system that holds a part of some images, or lies beside one and speaks of it.

    Args:
        paths: paths of images; one that is not there has none.
    """
    names = [name for path in paths for name in files_read(path)]
    found = {file: None for name in names if (file := file_of(name))}
    for file in list(found):
        for beside in file.parent.iterdir():
            for begun in (file.name, file.stem):
                if beside.name.startswith(begun) and _BESIDE.fullmatch(beside.name[len(begun) :]):
                    found[beside] = None
    return list(found)


def refuse_missing(path: Location) -> None:
    """Look for the files of a VRT now: GDAL does so when it reads a window, and that may be hours later.

    Args:
        path: path of a raster; archives are not looked into.
    Raises: DataError naming those that are not there, or lie on another machine.
    """
    missing: list[str] = []
    waiting = [Path(part) for part in parts_of(path) if isfile(part)]
    seen: set[Path] = set()
    while waiting:
        vrt = waiting.pop()
        if vrt.resolve() in seen:  # two files may name one, and one itself
            continue
        seen.add(vrt.resolve())
        with warnings.catch_warnings(), open_raster(vrt) as dataset:
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            content = dataset.tags(ns="xml:VRT").get("xml:VRT") if dataset.driver == "VRT" else None
        for source in ElementTree.fromstring(content).iter("SourceFilename") if content else ():
            name = source.text or ""
            try:
                refuse_remote(name)
            except DataError as error:
                raise DataError(f"{path}: refers to {error}") from None
            if _NO_FILE.match(name):
                continue
            file = vrt.parent / name if source.get("relativeToVRT") == "1" else Path(name)
            if not file.exists():
                missing.append(str(file))
            elif file.suffix.lower() == ".vrt":
                waiting.append(file)
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise DataError(
            f"{path}: refers to {', '.join(missing[:3])}{more}, which cannot be found; put the files there, or correct "
            "the VRT"
        )


def refuse_outside(paths: Iterable[Location], folder: Path) -> None:
    """Look for files that GDAL would read outside of a folder: sources of a VRT, sidecars, archives, through links too.

    Args:
        paths: paths of rasters.
        folder: folder of the data.
    Raises: DataError naming the raster and the file.
    """
    for path in paths:
        refuse_missing(path)
        for name in files_read(path):
            file = name if isfile(name) else file_of(name)
            if file is None or not is_below(file, folder):
                raise DataError(
                    f"{path}: refers to {name}, which is no file of the data folder {folder}; put it there and "
                    "correct the VRT, or give another data_root"
                )


def states_read(paths: Iterable[Image]) -> States:
    """Size and time of every file that GDAL reads with some files: equal as long as the data are the same.

    Args:
        paths: paths of images.
    Returns: name to `file_state`; in the order of the images, and of the files of each.
    """
    return {name: file_state(name) for path in paths for name in files_read(path)}
