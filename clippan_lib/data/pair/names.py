"""What a user calls an image: a file, a name that only GDAL knows, or several files with a band each."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import rasterio

from clippan_lib.errors import DataError

# One slash is left of two where an address was made a Path
_REMOTE = re.compile(
    r"(?:^|[\"':{=/+])(?:(?:https?|ftps?|s3|gs|gcs|az|azure|adls?|abfss?|oss|swift|w?e?b?hdfs):/"
    r"|vsi(?:curl|s3|gs|az|adls|oss|swift|hdfs|webhdfs)(?:_streaming)?[/?])",
    re.IGNORECASE,
)
# GDAL's drivers that read small files which say where on the net the pixels are
_SERVICES = {"WMS", "WMTS", "WCS", "HTTP", "EEDAI", "PLMOSAIC", "DAAS", "STACIT", "STACTA"}
_PASSING = re.compile(r"/vsi(?:mem|stdin)\b|MEM:", re.IGNORECASE)
_ARCHIVE = re.compile(r"(zip|tar|gzip)(?:\+file)?:/{2}([^!]+)(?:!/?(.*))?", re.IGNORECASE)
_OF_GDAL = re.compile(r"/vsi\w+/|[A-Za-z]\w+:")
# Which drivers read what has this ending, or a name that begins with this
_DRIVERS = {
    "jp2 j2k": ("JP2OpenJPEG", "JP2KAK", "JP2ECW", "JP2MrSID"),
    "ntf nitf nsf": ("NITF",),
    "hdf hdf4_sds hdf4_eos hdf4": ("HDF4", "HDF4Image"),
    "h5 he5 hdf5": ("HDF5", "HDF5Image"),
    "nc netcdf": ("netCDF",),
    "sid": ("MrSID",),
    "ecw": ("ECW",),
}
_ARCHIVES = {".zip": "zip", ".tar": "tar", ".tgz": "tar", ".gz": "gzip", ".7z": "7z", ".rar": "rar"}


@dataclass(frozen=True)
class Named:
    """An image that is no plain file.

    Args:
        opened: what GDAL opens: a name of its own, or the text of a VRT.
        parts: that name, or the names of the files of which the VRT is made; all absolute.
    """

    opened: str
    parts: tuple[str, ...]

    def __str__(self) -> str:
        first, *others = self.parts
        return ", ".join([first, *map(last_of, others)])

    @property
    def name(self) -> str:
        """Without folders."""
        return ", ".join(map(last_of, self.parts))


Location = Path | Named
Image = str | Path | Named
Images = Image | Sequence[str | Path]


def last_of(name: str) -> str:
    """What stands last in the name of a file, or of GDAL."""
    return re.split(r"[/\\:]", name.strip('"/'))[-1].strip('"')


def parts_of(location: Image) -> tuple[str, ...]:
    """The names, for GDAL, of all that an image is made of."""
    return location.parts if isinstance(location, Named) else (str(location),)


def as_given(images: Images) -> str | list[str]:
    """What a user wrote, for a record."""
    if isinstance(images, str | Path | Named):
        return str(images)
    return str(images[0]) if len(images) == 1 else [*map(str, images)]


def file_of(name: str) -> Path | None:
    """The file of the system in which GDAL finds what has a name: an archive, or a file of subdatasets."""
    found = _span(name)
    return Path(name[found]) if found else None


def read_name(given: str | Path) -> Location:
    """A file, or a name of GDAL's own, the file in it absolute.

    Args:
        given: a path, /vsizip/ARCHIVE.zip/FILE and so on, zip://ARCHIVE.zip!FILE, or a subdataset
            (HDF5:"FILE.h5"://NAME).
    Raises: DataError for what is not on this machine's disks: kept work could not tell whether it changed.
    """
    text = str(given)
    if os.path.isfile(text):
        return Path(text).absolute()
    refuse_remote(text)
    if _PASSING.match(text):
        raise DataError(f"{text}: lies in memory, where no other process finds it; write it to a file first")
    if text.startswith("file://"):
        return Path(unquote(urlsplit(text).path)).absolute()
    if match := _ARCHIVE.fullmatch(text):
        kind, archive, inner = match.groups()
        text = f"/vsi{kind.lower()}/{archive}" + (f"/{inner}" if inner else "")
    if not _OF_GDAL.match(text):
        return Path(text).absolute()
    if found := _span(text):
        text = text[: found.start] + os.path.abspath(text[found]) + text[found.stop :]
    return Named(text, (text,))


def refuse_remote(name: str, reader: str = "") -> None:
    """Raises: DataError for what is not on this machine's disks.

    Args:
        name: name of an image, for GDAL.
        reader: GDAL's driver that reads it, if it is open.
    """
    if _REMOTE.search(name) or reader in _SERVICES:
        raise DataError(
            f"{name}: lies on another machine; download it first: kept work could not tell whether it changed"
        )


def unopened(location: Location, error: Exception) -> DataError:
    """Why GDAL cannot open what is there, and what helps."""
    names = location.parts if isinstance(location, Named) else (str(location),)
    reason = str(error).replace(location.opened, str(location)) if isinstance(location, Named) else str(error)
    for name in names:
        if missing := _missing_drivers(name):
            return DataError(
                f"{location}: this GDAL ({rasterio.__gdal_version__}) has no driver {' or '.join(missing)}; convert "
                f"the file where there is one (gdal_translate {name} OUT.tif)"
            )
    if isinstance(location, Named):
        absolute = (
            ""
            if any(map(file_of, names))
            else ", with // before an absolute path: /vsizip//data/A.zip/MS.tif"
        )
        return DataError(
            f"{location}: GDAL finds nothing of this name ({reason}); give it as gdalinfo takes it{absolute}"
        )
    if kind := _ARCHIVES.get(location.suffix.lower()):
        return DataError(f"{location}: is an archive; name the file in it: /vsi{kind}/{location}/NAME.tif")
    return DataError(
        f"{location}: truncated or corrupt, cannot be opened as GeoTIFF ({reason}); get it again"
    )


def _missing_drivers(name: str) -> tuple[str, ...]:
    """The drivers of which one is needed for a file, where GDAL has none of them."""
    ending = (file_of(name) or Path(name)).suffix.lower().removeprefix(".")
    marks = {ending, name.partition(":")[0].lower(), last_of(name).rpartition(".")[2].lower()}
    for known, drivers in _DRIVERS.items():
        if marks & {*known.split()}:
            with rasterio.Env() as env:
                return () if set(drivers) & env.drivers().keys() else drivers
    return ()


def _span(name: str) -> slice | None:
    """Where in a name that of a file stands: the longest one, from as far left as there is any."""
    starts = [0, *(match.end() for match in re.finditer(r"/vsi\w+/|[\":,{]", name))]
    ends = [*(match.start() for match in re.finditer(r"[\":,}/]", name)), len(name)]
    for start in starts:
        for end in reversed(ends):
            if end > start and os.path.isfile(name[start:end]):
                return slice(start, end)
    return None
