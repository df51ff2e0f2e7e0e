"""What the files of a pair say of their values and of their place, as it holds for an image on the common grid."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np
from rasterio import DatasetReader
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.rpc import RPC

from clippan_lib.data.pair.grid import Axis

Tags = Mapping[str, Mapping[str, str]]  # of each domain; "" is the default one

# Domains that speak of the file itself, of its pixels' grid, or that are written in another way
_OF_THE_FILE = {
    "IMAGE_STRUCTURE",
    "DERIVED_SUBDATASETS",
    "SUBDATASETS",
    "COLOR_PROFILE",
    "GEOLOCATION",
    "RPC",
    "TIFF",
    "ENVI",
    "LocationInfo",
    "vrt_sources",
    "new_vrt_sources",
}
# Tags that are true of the stored values or of their grid alone, or of another output of this package
_OF_THE_VALUES = re.compile(
    r"STATISTICS_.*|OVERVIEW.*|OVR_.*|NODATA_VALUES|Band_\d+|CLIPPAN_.*"
    r"|TIFFTAG_(XRESOLUTION|YRESOLUTION|RESOLUTIONUNIT|MINSAMPLEVALUE|MAXSAMPLEVALUE)"
)
# Colours that say nothing of fused values: what is fused is data, and has no table of colours
_NO_COLOUR = {ColorInterp.undefined, ColorInterp.gray, ColorInterp.palette, ColorInterp.alpha}


@dataclass(frozen=True)
class Band:
    """What MS says of one band.

    Args:
        number: in the file, from 1.
        dtype: type of its values.
        description: letter by letter; None if there is none.
        colour: None where the file says nothing of it, or that the band is transparency.
        scale, offset: physical value = scale * stored number + offset.
        unit: unit of physical values, "" if none is named.
        tags: tags of the band.
    """

    number: int
    dtype: str
    description: str | None
    colour: ColorInterp | None
    scale: float
    offset: float
    unit: str
    tags: Tags


@dataclass(frozen=True)
class Carried:
    """What an image on the common grid takes from the files.

    Args:
        bands: bands of MS, in the order in which they are read.
        tags: tags of MS as a whole.
        pan_offset: offset of PAN's header, see `Band`.
        rpcs: RPCs of the grid's PAN pixels.
        gcps: the same; empty if there are none, or PAN has a transform, as a GeoTIFF has one of the two.
        gcps_crs: CRS of their coordinates.
        bare: whether RPCs or GCPs are all that tells the place, as PAN has no transform.
    """

    bands: tuple[Band, ...]
    tags: Tags
    pan_offset: float
    rpcs: RPC | None
    gcps: tuple[GroundControlPoint, ...]
    gcps_crs: CRS | None
    bare: bool

    @property
    def offsets(self) -> str:
        """The offsets of the headers in words, "" if all are 0."""
        of_ms = dict.fromkeys(f"{band.offset:g}" for band in self.bands)
        found = {"MS": ", ".join(of_ms), "PAN": f"{self.pan_offset:g}"}
        return "; ".join(f"{name} {values}" for name, values in found.items() if values != "0")


def carried(
    ms: DatasetReader,
    pan: DatasetReader,
    numbers: Sequence[int],
    band_of_pan: int,
    ratio: int,
    axes: Sequence[Axis],
) -> Carried:
    """Read what two open files say.

    Args:
        numbers: numbers of the MS bands that are wanted.
        band_of_pan: its number.
        ratio, axes: ratio and axes of the common grid.
    """
    # position of a pixel's centre in PAN or MS -> in the PAN pixels of the grid: times the first, plus the second
    of_pan = [(1.0, -float(axis.first)) for axis in axes]
    of_ms = [(ratio / axis.step, ratio // 2 - ratio * axis.origin / axis.step) for axis in axes]
    rpcs = next(
        (_moved(file.rpcs, *by) for file, by in ((pan, of_pan), (ms, of_ms)) if file.rpcs is not None), None
    )
    gcps, crs = next(
        (
            (tuple(_moved_point(point, *by) for point in file.gcps[0]), file.gcps[1])
            for file, by in ((pan, of_pan), (ms, of_ms))
            if file.gcps[0] and pan.transform.is_identity
        ),
        ((), None),
    )
    tags = kept_tags(ms, 0)
    if gcps:  # GDAL moves them by a pixel when it writes and reads those of points; as it gives them they are of areas
        tags = {
            name: {key: value for key, value in of.items() if key != "AREA_OR_POINT"}
            for name, of in tags.items()
        }
    bare = pan.transform.is_identity and bool(gcps or rpcs)
    bands = tuple(_band(ms, number) for number in numbers)
    return Carried(bands, tags, pan.offsets[band_of_pan - 1], rpcs, gcps, crs, bare)


def common_dtype(dtypes: Sequence[str]) -> str:
    """A type that holds the values of all these; one of 64-bit integers if any of these is one.

    >>> common_dtype(["uint8", "uint16"]), common_dtype(["uint16", "int16"]), common_dtype(["uint16", "float32"])
    ('uint16', 'int32', 'float32')
    """
    if long := [dtype for dtype in dtypes if dtype in ("int64", "uint64")]:
        return long[0]
    found = np.result_type(*dtypes).name
    return "float64" if found == "int64" else found  # of uint32 and a signed type


def common_nodata(values: Sequence[float | None]) -> float | None:
    """The NoData value of all bands that have one; None if there is none, or they differ."""
    found = [value for value in values if value is not None]
    same = all(value == found[0] or isnan(value) and isnan(found[0]) for value in found)
    return found[0] if found and same else None


def _band(ms: DatasetReader, number: int) -> Band:
    of = number - 1
    colour = ms.colorinterp[of]
    return Band(
        number,
        ms.dtypes[of],
        ms.descriptions[of] or None,
        None if colour in _NO_COLOUR else colour,
        float(ms.scales[of]),
        float(ms.offsets[of]),
        ms.units[of] or "",
        kept_tags(ms, number),
    )


def kept_tags(ms: DatasetReader, number: int) -> Tags:
    """Those of a band, or of the dataset, that are true of fused values as well."""
    domains = [
        name
        for name in ms.tag_namespaces(number)
        if name not in _OF_THE_FILE and not name.startswith(("xml:", "json:"))
    ]
    found = {name: ms.tags(number, ns=name or None) for name in dict.fromkeys(["", *domains])}
    kept = {
        name: {key: value for key, value in tags.items() if not _OF_THE_VALUES.fullmatch(key)}
        for name, tags in found.items()
    }
    return {name: tags for name, tags in kept.items() if tags}


def _moved(rpcs: RPC, rows: tuple[float, float], columns: tuple[float, float]) -> RPC:
    """RPCs count from the centre of the first pixel."""
    values = rpcs.to_dict()
    for axis, (factor, start) in (("line", rows), ("samp", columns)):
        values[f"{axis}_off"] = factor * values[f"{axis}_off"] + start
        values[f"{axis}_scale"] = factor * values[f"{axis}_scale"]
    return RPC(**values)


def _moved_point(
    point: GroundControlPoint, rows: tuple[float, float], columns: tuple[float, float]
) -> GroundControlPoint:
    """Points count from the corner of the first pixel."""
    row, column = (
        factor * (at - 0.5) + start + 0.5 for at, (factor, start) in ((point.row, rows), (point.col, columns))
    )
    return GroundControlPoint(row, column, point.x, point.y, point.z, point.id, point.info)
