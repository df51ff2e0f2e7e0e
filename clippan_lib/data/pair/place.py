"""How a file says where it lies, and whether two files say the same."""

import json
from typing import Any

from rasterio import Affine, DatasetReader
from rasterio.crs import CRS
from rasterio.errors import CRSError, TransformError
from rasterio.transform import RPCTransformer, from_gcps

from clippan_lib.errors import DataError

_APART = 0.05  # of PAN's side: what RPCs or GCPs of the same ground may disagree


def same_crs(one: CRS | None, other: CRS | None) -> bool:
    """Whether two mean the same on the ground.

    Heights do not count, nor do names, the dialect of the text, a shift to WGS 84 that is said beside the system, or
    the order of the axes, which GDAL does not keep to in rasters.
    """
    if not one or not other:
        return not one and not other
    first, second = map(_horizontal, (one, other))
    if first == second:
        return True
    numbers = {first.to_epsg(), second.to_epsg()}
    if None not in numbers and len(numbers) == 1:
        return True
    return first.is_geographic and second.is_geographic and _datum(first) == _datum(second)


def _projjson(crs: CRS) -> dict[str, Any]:
    return crs.to_dict(projjson=True)


def _horizontal(crs: CRS) -> CRS:
    found = _projjson(crs)
    while found.get("type") in ("CompoundCRS", "BoundCRS"):
        found = found["components"][0] if found["type"] == "CompoundCRS" else found["source_crs"]
    return CRS.from_user_input(json.dumps(found)) if found != _projjson(crs) else crs


def _datum(crs: CRS) -> str:
    found = _projjson(crs)
    return (found.get("datum") or found["datum_ensemble"])["name"].removesuffix(" ensemble")


def refuse_unplaced(pan: DatasetReader, ms: DatasetReader) -> None:
    """Refuse files whose place is known by RPCs or GCPs only: they would be fused as if they had none.

    Raises: DataError with how to warp each of them.
    """
    lone = [(dataset, _otherwise(dataset)) for dataset in (pan, ms) if dataset.transform.is_identity]
    if not (known := [(dataset, by) for dataset, by in lone if by]):
        return
    said = "; ".join(
        f"{dataset.name} says where it lies by {'RPCs' if by == 'rpc' else f'{len(dataset.gcps[0])} GCPs'} only"
        for dataset, by in known
    )
    raise DataError(
        f"{said}: warp both files onto one map first ({_warp(*known[0])}), or give --no-georeference, which fuses them "
        "on their pixels, upper left corners together, and takes RPCs and GCPs along"
    )


def _otherwise(dataset: DatasetReader) -> str:
    """By what a file says where it lies, beside an affine transform."""
    if dataset.rpcs is not None:
        return "rpc"
    return "gcps" if dataset.gcps[0] else ""


def _warp(dataset: DatasetReader, by: str) -> str:
    if by == "rpc":
        return f"gdalwarp -rpc -to RPC_DEM=DEM.tif -t_srs EPSG:... {dataset.name} OUT.tif"
    order = "-order 1" if len(dataset.gcps[0]) < 10 else "-tps"
    return f"gdalwarp {order} -t_srs {dataset.gcps[1] or 'EPSG:...'} {dataset.name} OUT.tif"


def refuse_other_ground(pan: DatasetReader, ms: DatasetReader, ratio: int) -> None:
    """Refuse a pair, to be fused on its pixels, whose RPCs or GCPs say that it shows two places.

    Args:
        pan, ms: files whose upper left corners are taken to coincide.
        ratio: PAN-to-MS scale.
    Raises: DataError with how far MS's centre lies from where it should, in PAN px.
    """
    if _otherwise(pan) != _otherwise(ms):
        return
    middle = (ms.height / 2 - 0.5, ms.width / 2 - 0.5)
    try:
        ground = _ground(ms, *middle)
        found = None if ground is None else _pixel(pan, *ground)
    except (TransformError, CRSError):
        return
    if found is None:
        return
    off = [at - (ratio * (place + 0.5) - 0.5) for at, place in zip(found, middle, strict=True)]
    if max(abs(by) / side for by, side in zip(off, pan.shape, strict=True)) > _APART:
        raise DataError(
            f"{ms.name} lies {off[0]:+.0f} rows and {off[1]:+.0f} columns (PAN px) away from {pan.name}, as their RPCs "
            "or GCPs say, and not corner on corner; give files of one place, or cut them to it"
        )


def _ground(dataset: DatasetReader, row: float, column: float) -> tuple[float, float] | None:
    """Coordinates of a pixel's centre (0 is the first one's), by what the file has beside a transform."""
    by = _otherwise(dataset)
    if by == "rpc":
        with RPCTransformer(dataset.rpcs, rpc_height=dataset.rpcs.height_off) as transformer:
            x, y = transformer.xy(row, column)
            return float(x), float(y)
    map_ = _by_gcps(dataset)
    if map_ is None:
        return None
    x, y = map_ @ (column + 0.5, row + 0.5)
    return float(x), float(y)


def _pixel(dataset: DatasetReader, x: float, y: float) -> tuple[float, float] | None:
    by = _otherwise(dataset)
    if by == "rpc":
        with RPCTransformer(dataset.rpcs, rpc_height=dataset.rpcs.height_off) as transformer:
            row, column = transformer.rowcol(x, y, op=float)
            return float(row) - 0.5, float(column) - 0.5
    map_ = _by_gcps(dataset)
    if map_ is None:
        return None
    column, row = ~map_ @ (x, y)
    return float(row) - 0.5, float(column) - 0.5


def _by_gcps(dataset: DatasetReader) -> Affine | None:
    """The affine map through the points; None if they are too few, or all on one line."""
    points = dataset.gcps[0]
    found = from_gcps(points) if len(points) > 2 else None
    return found if found is not None and not found.is_degenerate else None
