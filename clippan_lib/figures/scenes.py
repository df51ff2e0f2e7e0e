"""A whole scene at a glance: PAN and LRMS over map distances, NoData hatched."""

from collections.abc import Sequence
from math import ceil

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import Tensor

from clippan_lib.data.pair import ScenePair
from clippan_lib.figures.images import chosen
from clippan_lib.figures.stretch import fit_stretch
from clippan_lib.figures.style import WIDTH, fitted, headed, panels, styled
from clippan_lib.sensors import Sensor
from clippan_lib.shapes import Image

_CELLS = 256  # of LRMS along the longer side, at most; PAN has `ratio` times as many
_ROWS = 512  # LRMS px read at once, as wide as the scene
_NODATA = {"facecolor": "white", "edgecolor": "#999999", "hatch": "////", "linewidth": 0}
_UNITS = {"metre": "m", "degree": "°"}
Averaged = Float[Tensor, "c h w"]
Valid = Bool[Tensor, "h w"]


def _averaged(image: Image, valid: Bool[Tensor, "1 1 H W"], step: int) -> tuple[Averaged, Valid]:
    """Means of the valid pixels of step x step; valid where half of them are."""
    share = F.avg_pool2d(valid.float(), step, ceil_mode=True)
    total = F.avg_pool2d(image * valid, step, ceil_mode=True)
    return (total / share.where(share > 0, 1.0))[0], share[0, 0] >= 0.5


def _overview(pair: ScenePair, step: int) -> dict[str, tuple[Averaged, Valid]]:
    rows = step * ceil(_ROWS / step)
    strips = {"PAN": [], "LRMS": []}
    for top in range(0, pair.height, rows):
        window = pair.read(slice(top, min(top + rows, pair.height)), slice(None))
        strips["PAN"].append(_averaged(window.pan, window.pan_valid, step))
        strips["LRMS"].append(_averaged(window.lrms, window.lrms_valid, step))
    return {
        name: tuple(torch.cat(parts, -2) for parts in zip(*found, strict=True))
        for name, found in strips.items()
    }


def _draw(ax: Axes, image: Averaged, valid: Valid, bands: tuple[int, ...], size: tuple[float, ...]) -> None:
    """An image whose pixels have these sides, on map units; NoData shows what lies below."""
    rows, columns = valid.shape
    height, width = rows * size[0], columns * size[1]
    shown = fit_stretch(image[:, valid][:, None], bands).apply(image)
    ax.add_patch(Rectangle((0, 0), width, height, zorder=0, **_NODATA))
    ax.imshow(np.dstack((shown, valid)), extent=(0, width, height, 0), interpolation="nearest")


@styled
def scene_overview(
    pair: ScenePair,
    sensor: Sensor,
    title: str = "",
    width: float = WIDTH,
    bands: Sequence[str] | None = None,
) -> Figure:
    """PAN and LRMS of a whole scene on their common grid, averaged down if it is large; NoData is hatched.

    Read by rows of windows, so that any size fits into memory.

    Args:
        pair: from `open_pair`, with the sensor's bands.
        sensor: names of the bands.
        title: of the whole figure; the CRS and the position of the upper left corner if empty.
        width: at most so many inches: `WIDTH`, or `COLUMN` for one column of a paper.
        bands: names of the bands shown as red, green and blue, or of one; None is `sensor.rgb`.
    Raises: ValueError if the bands are not the sensor's, one of those shown is not, or one of the images is NoData
        throughout.
    """
    if pair.n_bands != sensor.n_bands:
        raise ValueError(f"the scene has {pair.n_bands} bands and sensor {sensor.name} {sensor.n_bands}")
    colours = chosen(sensor, bands)
    step = ceil(max(pair.height, pair.width) / _CELLS)
    images = _overview(pair, step)
    for name, (_, valid) in images.items():
        if not valid.any():
            raise ValueError(f"{name} is NoData throughout: there is nothing to draw")
    grid, unit = pair.transform, "PAN px"
    size = np.ones(2)
    if pair.crs is not None:
        unit = pair.crs.units_factor[0]
        size, unit = np.abs([grid.e, grid.a]), _UNITS.get(unit, unit)
    extent = pair.ratio * size * [pair.height, pair.width]
    shape = extent[0] / extent[1]
    tall = width / 2 * min(shape, 1.5)
    # A narrow scene gets a narrow figure, in which the labels still have room
    width = min(width, max(WIDTH / 2, 2 * tall / shape + 1.5))
    figure, axes = panels(2, 2, tall + 1.0, width)
    for ax, (name, (image, valid)) in zip(axes, images.items(), strict=True):
        scale, drawn = (1, (0,)) if name == "PAN" else (pair.ratio, colours)
        _draw(ax, image, valid, drawn, tuple(step * scale * size))
        ax.set(xlim=(0, extent[1]), ylim=(extent[0], 0))
        ax.set_title(fitted(f"{name}, pixels of {scale * size[1]:.4g} {unit}", width / 2 - 0.6))
        ax.set_xlabel(fitted(f"from the upper left corner ({unit})", width / 2 - 0.6))
    if not all(valid.all() for _, valid in images.values()):
        figure.legend(handles=[Patch(label="NoData", **_NODATA)], loc="outside lower right", frameon=False)
    headed(figure, title or f"{pair.crs or 'no CRS'}, upper left corner at {grid.c:.10g}, {grid.f:.10g}")
    return figure
