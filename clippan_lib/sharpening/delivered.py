"""A fused image that another program wrote, judged on the pair that it was fused from."""

from dataclasses import dataclass, replace
from typing import Unpack

import torch
from torch import Tensor

from clippan_lib.data.pair.bands import mask_bands, mask_of
from clippan_lib.data.pair.grid import Shift
from clippan_lib.data.pair.inputs import located
from clippan_lib.data.pair.names import Image, Images, Location
from clippan_lib.data.pair.raster import Raster, open_raster
from clippan_lib.data.pair.scene import Opening, ScenePair
from clippan_lib.errors import DataError
from clippan_lib.metrics import Judge, reduced_scores
from clippan_lib.sensors import Sensor
from clippan_lib.shapes import HRMS
from clippan_lib.sharpening.areas import Areas, choose_areas
from clippan_lib.sharpening.optics import Gains, scene_optics
from clippan_lib.sharpening.registration import place
from clippan_lib.sharpening.units import other_unit

_OFF = 0.05  # px; less is rounding of a georeference


@dataclass(frozen=True)
class OnGrid:
    """A file whose pixels are those of PAN.

    Args:
        raster: its bands.
        first: row and column of the file at which the pair's common grid begins.
    """

    raster: Raster
    first: tuple[int, int]

    def read(self, corner: tuple[int, int], height: int, width: int) -> HRMS:
        """A window (1, c, height, width), digital numbers.

        Args:
            corner: row and column, PAN px of the common grid.
            height, width: PAN px.
        Raises: DataError where the file does not reach, or holds NoData.
        """
        starts = [first + place for first, place in zip(self.first, corner, strict=True)]
        rows, columns = (range(at, at + side) for at, side in zip(starts, (height, width), strict=True))
        if min(starts) < 0 or rows.stop > self.raster.size[0] or columns.stop > self.raster.size[1]:
            raise DataError(
                f"{self.raster.path}: {self.raster.size[0]} x {self.raster.size[1]} px do not cover rows {rows.start} "
                f"to {rows.stop - 1} and columns {columns.start} to {columns.stop - 1} of it, which are judged; give "
                "the whole image"
            )
        image, valid = self.raster.read(rows, columns)
        if not valid.all():
            raise DataError(
                f"{self.raster.path}: {int((~valid).sum())} of the {valid.size} pixels that are judged hold NoData, "
                "where MS and PAN hold data; give an image without holes"
            )
        return torch.from_numpy(image)[None]


def open_on_grid(path: Location, pair: ScenePair) -> OnGrid:
    """Open a raster that lies on the pixels of PAN; only its header is read, and some pixels of bands tagged alpha.

    Args:
        path: the file. Without a georeference it must have the size of the pair's common grid.
        pair: says where that is, and how many bands there are.
    Raises: DataError naming bands, pixel sizes or the shift that do not fit.
    """
    with open_raster(path) as file:
        masks = mask_bands(file)
        bands = tuple(number for number in file.indexes if number not in masks)
        if len(bands) != pair.n_bands:
            raise DataError(
                f"{path}: {len(bands)} bands, and MS has {pair.n_bands} ({', '.join(pair.band_names)}); "
                "give --bands for those that the image has, in its order"
            )
        size, there, grid = file.shape, file.transform, pair.transform
        raster = Raster(path, bands, *mask_of(file, bands), size)
    expected = (pair.ratio * pair.height, pair.ratio * pair.width)
    if there.is_identity:
        if size != expected:
            raise DataError(
                f"{path}: without a georeference, {size[0]} x {size[1]} px must be {expected[0]} x {expected[1]}, the "
                "size of what MS and PAN have in common; give it a georeference"
            )
        return OnGrid(raster, (0, 0))
    if max(abs(there.a / grid.a - 1), abs(there.e / grid.e - 1)) * max(expected) > _OFF:
        raise DataError(
            f"{path}: pixels of {there.a:g} x {there.e:g}, and PAN's are {grid.a:g} x {grid.e:g}; give an image at "
            "PAN's resolution"
        )
    down, right = (grid.f - there.f) / there.e, (grid.c - there.c) / there.a
    if max(abs(down - round(down)), abs(right - round(right))) > _OFF:
        raise DataError(
            f"{path}: lies {down - round(down):+.2f} rows and {right - round(right):+.2f} columns off the pixels of "
            "PAN; warp it onto PAN's grid, or fuse again"
        )
    return OnGrid(raster, (round(down), round(right)))


def _refuse_other_units(paths: list[Location], images: list[Tensor]) -> None:
    """Args: files, and their images with that of MS behind them, as stored."""
    *delivered, ms = images
    pairs: list[tuple[Location, Tensor, Tensor, str]] = [
        (path, image, ms, "MS") for path, image in zip(paths, delivered, strict=True)
    ]
    if len(delivered) == 2:
        pairs.append((paths[0], delivered[0], delivered[1], "the reference"))
    for path, image, like, name in pairs:
        if remark := other_unit(image, like, name):
            raise DataError(f"{path}: {remark}")


@torch.no_grad()
def score_fused(
    fused: Images,
    ms: Images,
    pan: Image,
    *,
    reference: Images | None = None,
    sensor: Sensor | None = None,
    gains: Gains = "measured",
    register: bool = False,
    shift: Shift | None = None,
    **opening: Unpack[Opening],
) -> tuple[dict[str, float], Areas, list[str]]:
    """All scores of a fused image: without a reference, and with one if it is given.

    Args:
        fused: the image, on the pixels of PAN, with the bands of MS in their order.
        ms, pan, opening: as for `open_pair`.
        reference: the truth, on the same pixels.
        sensor: its gains serve where those of the scene cannot be measured.
        gains, register, shift: as for `plan_job`.
    Returns: metric to its mean over the areas; these areas; and what was seen of the files, in words.
    Raises: DataError or another ValueError that says what does not fit: place, bands, holes, or units.
    """
    placed = place(ms, pan, sensor=sensor, register=register, shift=shift, **opening)
    pair = placed.pair
    given = [located(image) for image in (fused, reference) if image is not None]
    files = [open_on_grid(path, pair) for path in given]
    optics = scene_optics(placed, sensor, gains, 0, "scoring")
    told, areas = replace(optics.sensor, ratio=pair.ratio), choose_areas(pair, sensor)
    ratio, (height, width) = pair.ratio, areas.lrms.shape[-2:]
    images = [
        torch.cat(
            [
                file.read((ratio * top, ratio * left), ratio * height, ratio * width)
                for top, left in areas.corners
            ]
        )
        / areas.largest
        for file in files
    ]
    _refuse_other_units(given, [areas.largest * image for image in (*images, areas.lrms)])
    scores = Judge(areas.lrms, areas.pan, told, ratio, areas.largest).scores(images[0])
    if reference is not None:
        scores = reduced_scores(images[0], images[1], ratio, areas.largest) | scores
    remarks = [*pair.remarks, *filter(None, (placed.remark, optics.remark))]
    return {name: value.mean().item() for name, value in scores.items()}, areas, remarks
