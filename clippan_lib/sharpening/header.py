"""What a fused file says of itself: its bands, its place and its making."""

from collections.abc import Mapping, Sequence

from rasterio.enums import ColorInterp
from rasterio.io import DatasetWriter

from clippan_lib.data.pair.carried import Carried

COLOURS = {name: ColorInterp[name] for name in ("red", "green", "blue")}


def write_header(
    dataset: DatasetWriter,
    bands: Sequence[str],
    tags: Mapping[str, str],
    carried: Carried | None,
    domain_of_bands: str | None,
) -> None:
    """Name and mark the bands, and say what the files of the pair say, where they say something.

    Args:
        dataset: open for writing, empty.
        bands, tags, carried: as for `write_scene`.
        domain_of_bands: where the bands' own tags go; None: where they belong.
    """
    colours = [COLOURS.get(band, ColorInterp.undefined) for band in bands]
    if carried is None:
        dataset.descriptions, dataset.colorinterp = bands, colours
        dataset.update_tags(**tags)
        return
    said = carried.bands
    dataset.descriptions = [band.description or name for band, name in zip(said, bands, strict=True)]
    dataset.colorinterp = [band.colour or colour for band, colour in zip(said, colours, strict=True)]
    if any((band.scale, band.offset) != (1.0, 0.0) for band in said):
        dataset.scales, dataset.offsets = [band.scale for band in said], [band.offset for band in said]
    if any(band.unit for band in said):
        dataset.units = [band.unit for band in said]
    if carried.gcps:
        dataset.gcps = list(carried.gcps), carried.gcps_crs
    if carried.rpcs is not None:
        dataset.rpcs = carried.rpcs
    for number, domains in enumerate((carried.tags, *(band.tags for band in said))):
        for domain, values in domains.items():
            dataset.update_tags(number, domain or (domain_of_bands if number else None), **values)
    dataset.update_tags(**tags)
    if carried.gcps and dataset.transform.is_identity:
        dataset.gcps = (
            list(carried.gcps),
            carried.gcps_crs,
        )  # in the end: GDAL's tags make it forget their CRS
