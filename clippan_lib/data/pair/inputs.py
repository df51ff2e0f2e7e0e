"""Where a user's images are; files with a band each become one image."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from math import isnan
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, tostring

from rasterio import DatasetReader
from rasterio.dtypes import dtype_rev, typename_fwd
from rasterio.enums import MaskFlags

from clippan_lib.data.pair.carried import kept_tags
from clippan_lib.data.pair.names import Images, Location, Named, last_of, parts_of, read_name
from clippan_lib.data.pair.place import same_crs
from clippan_lib.data.pair.raster import open_raster
from clippan_lib.errors import DataError

_OF_AREAS = ("", "AREA_OR_POINT")
_OFF = 1e-3  # px, at a corner; less is rounding of a georeference


def located(given: Images) -> Location:
    """Where an image is, the same for each process that is started anywhere.

    Args:
        given: a file; a name of GDAL's own, such as "/vsizip/scene.zip/MS.tif"; or several of these, on one grid, whose
            bands then follow one another. A band is described by its own file, else, if it is alone in it, by the
            file's name.
    Returns: a path, or what several files are as one; what this function made is returned as it is.
    Raises: DataError for names of other machines, and for files that are not on one grid, naming two of them.
    """
    if isinstance(given, Named):
        return given
    if isinstance(given, str | Path):
        return read_name(given)
    names = [read_name(each) for each in given]
    if not names:
        raise DataError("no file of MS is named; give one, or one per band")
    return names[0] if len(names) == 1 else _joined(names)


def _joined(names: Sequence[Location]) -> Named:
    """A VRT of several files. As a text it is read by each thread and process, and nothing has to be removed."""
    parts = tuple(part for name in names for part in parts_of(name))
    if twice := [part for part in parts if parts.count(part) > 1]:
        raise DataError(f"{twice[0]}: is given twice; give each file of MS once")
    with ExitStack() as opened:
        files = [opened.enter_context(open_raster(name)) for name in names]
        for file in files[1:]:
            _refuse_other_grid(files[0], file)
        return Named(tostring(_described(files, parts), encoding="unicode"), parts)


def _refuse_other_grid(one: DatasetReader, other: DatasetReader) -> None:
    named = f"{one.name} and {other.name} are not on one grid"
    places = [
        [transform @ corner for corner in ((0, 0), (file.width, file.height))]
        for file, transform in ((one, one.transform), (other, other.transform))
    ]
    apart = max(
        abs(a - b) / abs(pixel)
        for first, second in zip(*places, strict=True)
        for a, b, pixel in zip(first, second, (one.transform.a or 1, one.transform.e or 1), strict=True)
    )
    if one.shape != other.shape or not apart <= _OFF:
        seen = [
            f"{file.height} x {file.width} px of {abs(file.transform.a):g} x {abs(file.transform.e):g} from "
            f"{file.transform.c:.10g}, {file.transform.f:.10g}"
            for file in (one, other)
        ]
        raise DataError(
            f"{named}: {seen[0]}, and {seen[1]}; bring all bands onto one (gdalwarp -tr, or one file of all by "
            "gdalbuildvrt -separate -resolution highest), or leave that file out"
        )
    if not same_crs(one.crs, other.crs):
        raise DataError(
            f"{named}: one is in {one.crs or 'no CRS'}, the other in {other.crs or 'no CRS'}; assign the missing one "
            "(gdal_edit.py -a_srs), or reproject (gdalwarp -t_srs)"
        )
    if _otherwise(one) != _otherwise(other):
        raise DataError(
            f"{named}: their RPCs or GCPs differ; take them away where they do not hold (gdal_edit.py -unsetrpc, "
            "-unsetgcp), or warp all onto one map (gdalwarp)"
        )


def _otherwise(file: DatasetReader) -> tuple[object, ...]:
    """What says the place beside an affine transform."""
    points, crs = file.gcps
    placed = [(point.row, point.col, point.x, point.y, point.z) for point in points]
    return file.tags(ns="RPC"), placed, str(crs) if points and crs else ""


def _described(files: Sequence[DatasetReader], parts: Sequence[str]) -> Element:
    first = files[0]
    root = Element("VRTDataset", rasterXSize=str(first.width), rasterYSize=str(first.height))
    if first.crs:
        SubElement(root, "SRS").text = first.crs.to_wkt(version="WKT2_2019")
    if not first.transform.is_identity:
        SubElement(root, "GeoTransform").text = ", ".join(map(repr, first.transform.to_gdal()))
    points, crs = first.gcps
    if points:
        listed = SubElement(root, "GCPList", Projection=crs.to_wkt(version="WKT2_2019") if crs else "")
        for point in points:
            place = {"Pixel": point.col, "Line": point.row, "X": point.x, "Y": point.y, "Z": point.z or 0.0}
            said = {"Id": point.id or "", "Info": point.info or ""}
            SubElement(listed, "GCP", said | {name: repr(float(value)) for name, value in place.items()})
    _tag(root, "RPC", first.tags(ns="RPC"))
    of_files = [_flat(file, 0) for file in files]
    common = {
        key: value for key, value in of_files[0].items() if all(of.get(key) == value for of in of_files)
    }
    # a label: transforms are of areas, whatever it says
    common |= {key: value for key, value in of_files[0].items() if key == _OF_AREAS}
    _tag_all(root, common)
    for file, part, tags in zip(files, parts, of_files, strict=True):
        own = {key: value for key, value in tags.items() if key not in common and key != _OF_AREAS}
        for number in file.indexes:
            _add_band(root, file, part, number, own)
    return root


def _add_band(
    root: Element, file: DatasetReader, part: str, number: int, tags: dict[tuple[str, str], str]
) -> None:
    """Args: tags: of the file, that are not those of all files, and therefore its bands'."""
    of, before = number - 1, len(root.findall("VRTRasterBand"))
    high, wide = file.block_shapes[of]
    kind = typename_fwd[dtype_rev[file.dtypes[of]]]
    size = {"dataType": kind, "blockXSize": str(wide), "blockYSize": str(high)}
    band = SubElement(root, "VRTRasterBand", size, band=str(before + 1))
    alone = os.path.splitext(last_of(part))[0] if file.count == 1 else ""
    if described := file.descriptions[of] or alone:
        SubElement(band, "Description").text = described
    _tag_all(band, tags | _flat(file, number))
    if file.units[of]:
        SubElement(band, "UnitType").text = file.units[of]
    if (file.scales[of], file.offsets[of]) != (1.0, 0.0):
        SubElement(band, "Offset").text = repr(float(file.offsets[of]))
        SubElement(band, "Scale").text = repr(float(file.scales[of]))
    SubElement(band, "ColorInterp").text = file.colorinterp[of].name
    nodata = file.nodatavals[of]
    if nodata is not None:
        SubElement(band, "NoDataValue").text = "nan" if isnan(nodata) else repr(nodata)
    _add_source(band, file, part, str(number), size)
    flags = file.mask_flag_enums[of]
    if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:  # GDAL keeps one mask per file
        mask = SubElement(SubElement(band, "MaskBand"), "VRTRasterBand", dataType="Byte")
        _add_source(mask, file, part, f"mask,{number}", size | {"dataType": "Byte"})


def _add_source(band: Element, file: DatasetReader, part: str, number: str, size: dict[str, str]) -> None:
    source = SubElement(band, "SimpleSource")
    # not shared: two threads would read one file by one handle
    SubElement(source, "SourceFilename", relativeToVRT="0", shared="0").text = part
    SubElement(source, "SourceBand").text = number
    blocks = {name[:1].upper() + name[1:]: value for name, value in size.items()}
    width, height = str(file.width), str(file.height)
    SubElement(source, "SourceProperties", blocks, RasterXSize=width, RasterYSize=height)
    for rectangle in ("SrcRect", "DstRect"):
        SubElement(source, rectangle, xOff="0", yOff="0", xSize=width, ySize=height)


def _flat(file: DatasetReader, number: int) -> dict[tuple[str, str], str]:
    """Tags by domain and key."""
    return {
        (domain, key): value
        for domain, tags in kept_tags(file, number).items()
        for key, value in tags.items()
    }


def _tag_all(element: Element, tags: dict[tuple[str, str], str]) -> None:
    for domain in dict.fromkeys(domain for domain, _ in tags):
        _tag(element, domain, {key: value for (of, key), value in tags.items() if of == domain})


def _tag(element: Element, domain: str, tags: dict[str, str]) -> None:
    if tags:
        found = SubElement(element, "Metadata", {"domain": domain} if domain else {})
        for key, value in tags.items():
            SubElement(found, "MDI", key=key).text = value
