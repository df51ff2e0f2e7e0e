"""The paper's Figures 4 and 5: fused images side by side, a box magnified, error maps on one scale."""

from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from clippan_lib.figures.images import chosen, colours, draw, full_size, one_choice
from clippan_lib.figures.stretch import Picture, Stretch, error_map, fit_stretch, pick_box
from clippan_lib.figures.style import BOX, WIDTH, fitted, headed, new_figure, plots_across, styled
from clippan_lib.sensors import Sensor

Box = tuple[int, int, int]
_ERROR_COLOURS = "magma"
_NARROW = 1.2  # inches of a column, at least
_BAR = 0.15  # inches, the height of the colour bar
_BAR_LABEL = "absolute error, mean over bands (DN)"
_LONGEST = 1.5  # longer side over shorter of what is shown of a scene


def _gather(
    results: Mapping[str, Picture], lrms: Picture, pan: Picture, gt: Picture | None
) -> dict[str, Picture]:
    """All images in the order shown."""
    taken = sorted({"LRMS", "PAN", "GT"} & set(results))
    if not results or taken:
        raise ValueError(
            f"results {list(results)}: give at least one method, and none named {taken or 'LRMS'}"
        )
    return {"LRMS": lrms, "PAN": pan, **results, **({} if gt is None else {"GT": gt})}


def _checked_box(box: Box | None, detailed: Picture, size: tuple[int, int], ratio: int) -> Box:
    if box is None:
        width = min(size[1], int(_LONGEST * size[0]))
        return pick_box(detailed, max(1, min(width // 3, size[0])), ratio)
    top, left, side = box
    if side < 1 or top < 0 or left < 0 or top + side > size[0] or left + side > size[1]:
        raise ValueError(f"box (top, left, size) {box} lies outside the image of {size}")
    return box


def _view(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Top, left, height and width of what is shown: all, or the part around the box of an elongated scene."""
    shown = [min(side, int(_LONGEST * min(size))) for side in size]
    middles = [corner + box[2] // 2 for corner in box[:2]]
    corners = [
        min(max(middle - part // 2, 0), side - part)
        for middle, part, side in zip(middles, shown, size, strict=True)
    ]
    return (*corners, *shown)


def _grid(
    names: Sequence[str], columns: int, rows: int, shape: float, width: float
) -> tuple[Figure, dict[str, list[Axes]]]:
    """Blocks of `rows` rows under one another; each image has one column of a block.

    Args:
        names: of the images.
        columns: of a block.
        rows: 2 (image, zoom) or 3 (and error map, with a strip for the colour bar below all).
        shape: height over width of the images; zooms are square.
        width: inches of the figure.
    """
    blocks, cell = ceil(len(names) / columns), width / columns
    heights = [cell * shape, cell, cell * shape][:rows] * blocks + [_BAR] * (rows - 2)
    figure = new_figure(sum(heights) + 0.5 * blocks + 0.5 * (rows - 2), width)
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    cells = {}
    for place, name in enumerate(names):
        block, column = divmod(place, columns)
        cells[name] = [figure.add_subplot(grid[block * rows + row, column]) for row in range(rows)]
    if rows == 3:
        figure.add_subplot(grid[-1, :], label=_BAR_LABEL)
    return figure, cells


def _draw_image(
    cells: Sequence[Axes], picture: np.ndarray, size: tuple[int, int], view: tuple[int, ...], box: Box
) -> None:
    """The image with the box, and below it the box alone."""
    top, left, side = box
    for ax in cells[:2]:
        draw(ax, picture, size)
    _show(cells[0], *view)
    cells[0].add_patch(Rectangle((left, top), side, side, fill=False, edgecolor=BOX, linewidth=1.8))
    _show(cells[1], top, left, side, side)
    cells[1].spines[:].set(edgecolor=BOX, linewidth=1.8)
    for ax in cells[2:]:
        ax.set_axis_off()


def _show(ax: Axes, top: int, left: int, height: int, width: int) -> None:
    ax.set(xlim=(left, left + width), ylim=(top + height, top))


def _draw_errors(
    figure: Figure,
    cells: Mapping[str, list[Axes]],
    errors: Mapping[str, np.ndarray],
    view: tuple[int, ...],
    limit: float | int | None,
) -> None:
    """All error maps on one scale, with one colour bar."""
    if limit is None:
        limit = float(np.percentile(np.stack(list(errors.values())), 99)) or 1.0
    for name, error in errors.items():
        ax = cells[name][2]
        ax.set_axis_on()
        drawn = draw(ax, error, error.shape, cmap=_ERROR_COLOURS, vmin=0.0, vmax=limit)
        _show(ax, *view)
        ax.set_xlabel(f"mean {error.mean():.3g}")
    bar = next(ax for ax in figure.axes if ax.get_label() == _BAR_LABEL)
    scale = figure.colorbar(drawn, cax=bar, orientation="horizontal", extend="max", label=_BAR_LABEL)
    # As one picture: viewers of PDF show hairlines between areas that touch.
    scale.solids.set_rasterized(True)


@styled
def zooms(
    results: Mapping[str, Picture],
    lrms: Picture,
    pan: Picture,
    sensor: Sensor,
    gt: Picture | None = None,
    box: Box | None = None,
    stretch: Stretch | None = None,
    error_max: float | int | None = None,
    columns: int = 6,
    title: str = "",
    dn_max: float | int | None = None,
    width: float = WIDTH,
    bands: Sequence[str] | None = None,
) -> Figure:
    """The paper's Figures 4 (no ground truth) and 5: images with a green box, the box magnified, error maps.

    Of an elongated scene (3:2 and more) the part around the box is shown; the means below the error maps are of
    the whole scene.

    Args:
        results: method to fused image, (c, H, W) or (1, c, H, W), [0, 1].
        lrms: (c, h, w) or (1, c, h, w), the input, shown first.
        pan: (1, H, W) or (1, 1, H, W), shown second.
        sensor: names of the bands.
        gt: as `results`; shown last and makes the row of error maps.
        box: top, left, size in PAN pixels; None takes a third of the width shown (magnified three times, as in
            the paper), where the ground truth, or PAN, has the most detail.
        stretch: shared by all; None fits it to `lrms`, which favours no method.
        error_max: end of the common error scale, in digital numbers; None: 99th percentile of all maps.
        columns: at most so many images side by side, and fewer where the width has no room for them; more go on
            below, in blocks of about equal width.
        title: of the whole figure; sensor, bands shown and size of the box if empty.
        dn_max: what takes images to digital numbers, for the error maps (`Scene.dn_max`); None is the sensor's
            largest.
        width: inches: `WIDTH`, or `COLUMN` for one column of a paper.
        bands: names of the bands shown as red, green and blue, or of one; None is `sensor.rgb`.
    Raises: ValueError on no results, a result with a taken name, unequal sizes, a box outside the image, a band that
        the sensor lacks, or bands beside a stretch.
    """
    one_choice(stretch, bands)
    images = _gather(results, lrms, pan, gt)
    size = full_size(images)
    box = _checked_box(box, pan if gt is None else gt, size, sensor.ratio)
    stretch = stretch or fit_stretch(lrms, chosen(sensor, bands))
    view = _view(box, size)
    columns = ceil(len(images) / ceil(len(images) / min(columns, plots_across(width, _NARROW))))
    figure, cells = _grid(list(images), columns, 2 if gt is None else 3, view[2] / view[3], width)
    for name, image in images.items():
        _draw_image(cells[name], colours(image, name, sensor, stretch), size, view, box)
        cells[name][0].set_title(fitted(name, width / columns - 0.1))
    if gt is not None:
        scale = dn_max or sensor.max_value
        errors = {name: (error_map(hrms, gt) * scale).numpy() for name, hrms in results.items()}
        _draw_errors(figure, cells, errors, view, error_max)
    part = "" if view[2:] == size else f"part of {size[0]}×{size[1]} pixels, "
    magnified = f"{part}box of {box[2]}×{box[2]} PAN pixels, magnified ×{view[3] / box[2]:.2g}"
    shown = ", ".join(sensor.bands[band] for band in stretch.bands)
    headed(figure, title or f"{sensor.name} ({shown}): {magnified}")
    return figure
