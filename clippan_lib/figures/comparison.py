"""The paper's Figures 4 and 5: fused images side by side, a box magnified, error maps on one scale."""

from collections.abc import Mapping, Sequence
from math import ceil
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from clippan_lib.figures.images import colours, draw, full_size
from clippan_lib.figures.stretch import Picture, Stretch, error_map, fit_stretch, pick_box
from clippan_lib.figures.style import BOX, WIDTH, new_figure, styled
from clippan_lib.sensors import Sensor

Box = tuple[int, int, int]
_ERROR_COLOURS = "magma"
_BAR = 0.15  # inches, the height of the colour bar
_BAR_LABEL = "absolute error, mean over bands (DN)"
_LETTER = 0.09  # inches, the mean width of a letter of a title


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
        return pick_box(detailed, max(1, min(size[1] // 3, size[0])), ratio)
    top, left, side = box
    if side < 1 or top < 0 or left < 0 or top + side > size[0] or left + side > size[1]:
        raise ValueError(f"box (top, left, size) {box} lies outside the image of {size}")
    return box


def _grid(
    names: Sequence[str], columns: int, rows: int, shape: float
) -> tuple[Figure, dict[str, list[Axes]]]:
    """Blocks of `rows` rows under one another; each image has one column of a block.

    Args:
        names: of the images.
        columns: at most so many in a block.
        rows: 2 (image, zoom) or 3 (and error map, with a strip for the colour bar below all).
        shape: height over width of the images; zooms are square.
    """
    columns = min(columns, len(names))
    blocks, cell = ceil(len(names) / columns), WIDTH / columns
    heights = [cell * shape, cell, cell * shape][:rows] * blocks + [_BAR] * (rows - 2)
    figure = new_figure(sum(heights) + 0.5 * blocks + 0.5 * (rows - 2))
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    cells = {}
    for place, name in enumerate(names):
        block, column = divmod(place, columns)
        cells[name] = [figure.add_subplot(grid[block * rows + row, column]) for row in range(rows)]
    if rows == 3:
        figure.add_subplot(grid[-1, :], label=_BAR_LABEL)
    return figure, cells


def _draw_image(cells: Sequence[Axes], picture: np.ndarray, size: tuple[int, int], box: Box) -> None:
    """The whole image with the box, and below it the box alone."""
    top, left, side = box
    for ax in cells[:2]:
        draw(ax, picture, size)
    cells[0].add_patch(Rectangle((left, top), side, side, fill=False, edgecolor=BOX, linewidth=1.8))
    cells[1].set(xlim=(left, left + side), ylim=(top + side, top))
    cells[1].spines[:].set(edgecolor=BOX, linewidth=1.8)
    for ax in cells[2:]:
        ax.set_axis_off()


def _draw_errors(
    figure: Figure,
    cells: Mapping[str, list[Axes]],
    errors: Mapping[str, np.ndarray],
    limit: float | int | None,
) -> None:
    """All error maps on one scale, with one colour bar."""
    if limit is None:
        limit = float(np.percentile(np.stack(list(errors.values())), 99)) or 1.0
    for name, error in errors.items():
        ax = cells[name][2]
        ax.set_axis_on()
        drawn = draw(ax, error, error.shape, cmap=_ERROR_COLOURS, vmin=0.0, vmax=limit)
        ax.set_xlabel(f"mean {error.mean():.3g}")
    bar = next(ax for ax in figure.axes if ax.get_label() == _BAR_LABEL)
    figure.colorbar(drawn, cax=bar, orientation="horizontal", extend="max", label=_BAR_LABEL)


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
) -> Figure:
    """The paper's Figures 4 (no ground truth) and 5: images with a green box, the box magnified, error maps.

    Args:
        results: method to fused image, (c, H, W) or (1, c, H, W), [0, 1].
        lrms: (c, h, w) or (1, c, h, w), the input, shown first.
        pan: (1, H, W) or (1, 1, H, W), shown second.
        sensor: bands shown, and the digital numbers of the error maps.
        gt: as `results`; shown last and makes the row of error maps.
        box: top, left, size in PAN pixels; None takes a third of the width (magnified three times, as in the
            paper), where the ground truth, or PAN, has the most detail.
        stretch: shared by all; None fits it to `lrms`, which favours no method.
        error_max: end of the common error scale, in digital numbers; None: 99th percentile of all maps.
        columns: at most so many images side by side; more go on below.
        title: of the whole figure.
    Raises: ValueError on no results, a result with a taken name, unequal sizes, or a box outside the image.
    """
    images = _gather(results, lrms, pan, gt)
    size = full_size(images)
    box = _checked_box(box, pan if gt is None else gt, size, sensor.ratio)
    stretch = stretch or fit_stretch(lrms, sensor.rgb)
    figure, cells = _grid(list(images), columns, 2 if gt is None else 3, size[0] / size[1])
    letters = int(WIDTH / min(columns, len(images)) / _LETTER)
    for name, image in images.items():
        _draw_image(cells[name], colours(image, name, sensor, stretch), size, box)
        cells[name][0].set_title(fill(name, letters))
    if gt is not None:
        errors = {name: (error_map(hrms, gt) * sensor.max_value).numpy() for name, hrms in results.items()}
        _draw_errors(figure, cells, errors, error_max)
    magnified = f"box of {box[2]}×{box[2]} pixels, magnified ×{size[1] / box[2]:.2g}"
    figure.suptitle(title or f"{sensor.name}: {magnified}")
    return figure
