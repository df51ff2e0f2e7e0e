"""Pictures of images side by side under one stretch: rows of images, patches, splits."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from clippan_lib.figures.stretch import Picture, Stretch, fit_stretch, single
from clippan_lib.figures.style import (
    PALETTE,
    WIDTH,
    bare,
    fitted,
    headed,
    legend_below,
    new_figure,
    panels,
    plots_across,
    styled,
)
from clippan_lib.sensors import Sensor

# Few pictures are not blown up to the full width, and many are not as small as a stamp
_LARGEST, _SMALLEST = 4.5, 1.5  # inches
_SPLITS = 6.0  # inches, the width of a map of splits on the screen


def colours(image: Picture, name: str, sensor: Sensor, stretch: Stretch) -> np.ndarray:
    """Multispectral images under the shared stretch; PAN, which shares no band with them, under its own."""
    chw = single(image, name)
    if chw.shape[0] == sensor.n_bands:
        return stretch.apply(chw)
    if chw.shape[0] == 1:
        return fit_stretch(chw, (0,)).apply(chw)
    raise ValueError(
        f"{name} has {chw.shape[0]} bands: {sensor.name} images have {sensor.n_bands}, PAN has 1"
    )


def chosen(sensor: Sensor, bands: Sequence[str] | None) -> tuple[int, ...]:
    """The indices of the bands shown.

    Args:
        sensor: bands that there are.
        bands: names of three of them, shown as red, green and blue, or of one, in grey; None is `sensor.rgb`.
    Raises: ValueError on a name that the sensor lacks, or on another number of names.
    """
    if bands is None:
        return sensor.rgb
    if len(bands) not in (1, 3) or not set(bands) <= set(sensor.bands):
        raise ValueError(
            f"bands {', '.join(bands)}: give three (red, green, blue) or one (grey) of {sensor.name}'s "
            + ", ".join(sensor.bands)
        )
    return tuple(sensor.bands.index(band) for band in bands)


def one_choice(stretch: Stretch | None, bands: Sequence[str] | None) -> None:
    """Refuse a stretch together with names of bands."""
    if stretch is not None and bands is not None:
        raise ValueError(f"bands {', '.join(bands)} and a stretch, which has its own bands: give one of them")


def _default_stretch(images: Mapping[str, Picture], sensor: Sensor, bands: Sequence[str] | None) -> Stretch:
    for image in images.values():
        if image.shape[-3] == sensor.n_bands:
            return fit_stretch(image, chosen(sensor, bands))
    raise ValueError(
        f"none of {list(images)} has the {sensor.n_bands} bands of {sensor.name}: give a stretch"
    )


def full_size(images: Mapping[str, Picture]) -> tuple[int, int]:
    """Height and width of the largest; the others show the same ground, so have frames of the same shape."""
    height, width = max(tuple(image.shape[-2:]) for image in images.values())
    for name, image in images.items():
        if image.shape[-2] * width != image.shape[-1] * height:
            raise ValueError(f"{name} is {tuple(image.shape[-2:])}: no scale fits it to {(height, width)}")
    return height, width


def draw(axes: Axes, picture: np.ndarray, size: tuple[int, int], **how: object) -> object:
    bare(axes)
    return axes.imshow(picture, extent=(0, size[1], size[0], 0), interpolation="nearest", **how)


def _size_of(image: Picture) -> str:
    bands, height, width = image.shape[-3:]
    return f"{height}×{width}, {bands} {'band' if bands == 1 else 'bands'}"


@styled
def show_images(
    images: Mapping[str, Picture],
    sensor: Sensor,
    stretch: Stretch | None = None,
    columns: int = 4,
    title: str = "",
    width: float = WIDTH,
    bands: Sequence[str] | None = None,
) -> Figure:
    """Images of the same ground at the same extent, whatever their resolution (nearest neighbour).

    Args:
        images: title to image, each (c, H, W) or (1, c, H, W), [0, 1]; c is the sensor's bands, or 1 for PAN.
        sensor: names of the bands.
        stretch: shared by all multispectral images; None fits it to the first of them. PAN has its own.
        columns: at most so many in a row; fewer where the width has no room for them.
        title: of the whole figure.
        width: at most so many inches: `WIDTH`, or `COLUMN` for one column of a paper.
        bands: names of the bands shown as red, green and blue, or of one; None is `sensor.rgb`.
    Raises: ValueError on no images, another count of bands, frames of different shape, a band that the sensor lacks,
        or bands beside a stretch.
    """
    if not images:
        raise ValueError("no images to show: give at least one")
    one_choice(stretch, bands)
    stretch = stretch or _default_stretch(images, sensor, bands)
    size = full_size(images)
    columns = min(columns, len(images), plots_across(width, _SMALLEST))
    side = min(width / columns, _LARGEST)
    titles = [fitted(f"{name}\n{_size_of(image)}", side - 0.1) for name, image in images.items()]
    lines = max(title.count("\n") for title in titles) + 1
    figure, axes = panels(len(images), columns, side * size[0] / size[1] + 0.1 + 0.2 * lines, side * columns)
    for ax, above, (name, image) in zip(axes, titles, images.items(), strict=True):
        draw(ax, colours(image, name, sensor, stretch), size)
        ax.set_title(above)
    headed(figure, title)
    return figure


@styled
def patch_grid(
    lrms: Picture,
    pan: Picture,
    sensor: Sensor,
    gt: Picture | None = None,
    columns: int = 6,
    title: str = "",
    width: float = WIDTH,
    bands: Sequence[str] | None = None,
) -> Figure:
    """The first patches of a batch: LRMS above PAN above ground truth, one stretch for the whole batch.

    Args:
        lrms: (b, c, h, w), [0, 1].
        pan: (b, 1, H, W).
        sensor: names of the bands.
        gt: (b, c, H, W).
        columns: how many patches are drawn, at most; fewer where the width has no room for them.
        title: of the whole figure.
        width: at most so many inches: `WIDTH`, or `COLUMN` for one column of a paper.
        bands: names of the bands shown as red, green and blue, or of one; None is `sensor.rgb`.
    Raises: ValueError on an empty batch, unequal batches or a band that the sensor lacks.
    """
    rows = {"LRMS": lrms, "PAN": pan, **({} if gt is None else {"GT": gt})}
    if len({len(batch) for batch in rows.values()}) != 1 or len(lrms) == 0:
        raise ValueError(
            f"batches of {[len(batch) for batch in rows.values()]}: give equal ones, of at least one patch"
        )
    columns = min(columns, len(lrms), plots_across(width - 0.5, _SMALLEST))
    # The batch laid out as one tall image: its percentiles are those of all patches together.
    multispectral = fit_stretch(lrms.transpose(0, 1).flatten(1, 2), chosen(sensor, bands))
    grey = fit_stretch(pan.transpose(0, 1).flatten(1, 2), (0,))
    side = min((width - 0.5) / columns, _LARGEST / 2)
    figure = new_figure(side * len(rows) + 0.4, side * columns + 0.5)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes, (name, batch) in zip(grid, rows.items(), strict=True):
        axes[0].set_ylabel(fitted(f"{name}\n{_size_of(batch)}", side - 0.1))
        for ax, image in zip(axes, batch, strict=False):
            draw(ax, (grey if name == "PAN" else multispectral).apply(image), tuple(pan.shape[-2:]))
    headed(figure, title)
    return figure


@styled
def split_map(
    image: Picture,
    regions: Mapping[str, Sequence[tuple[int, int, int, int]]],
    sensor: Sensor,
    width: float = _SPLITS,
    bands: Sequence[str] | None = None,
) -> Figure:
    """Which part of a scene trains, validates and tests.

    Args:
        image: (c, H, W) or (1, c, H, W), [0, 1]; multispectral or PAN.
        regions: split to rectangles (top, left, height, width), in pixels of `image`.
        sensor: names of the bands.
        width: inches.
        bands: names of those whose mean is shown in grey; None is `sensor.rgb`.
    Raises: ValueError on a rectangle that leaves the image, or a band that the sensor lacks.
    """
    chw = single(image)
    size = (int(chw.shape[1]), int(chw.shape[2]))
    # Grey below, so that the only colours are those of the splits.
    shown = list(chosen(sensor, bands)) if chw.shape[0] == sensor.n_bands else [0]
    grey = chw[shown].mean(0, keepdim=True)
    figure = new_figure(width * size[0] / size[1] + 0.6, width)
    ax = figure.subplots()
    draw(ax, fit_stretch(grey, (0,)).apply(grey), size)
    for colour, (split, rectangles) in zip(PALETTE, regions.items(), strict=False):
        for top, left, rows, columns in rectangles:
            if top < 0 or left < 0 or top + rows > size[0] or left + columns > size[1]:
                region = (top, left, rows, columns)
                raise ValueError(f"{split} region {region} leaves the image of {size}")
            ax.add_patch(Rectangle((left, top), columns, rows, facecolor=colour, alpha=0.35))
    handles = [
        Patch(color=colour, alpha=0.5, label=split) for colour, split in zip(PALETTE, regions, strict=False)
    ]
    legend_below(figure, handles, list(regions))
    ax.set_title(_size_of(chw))
    return figure
