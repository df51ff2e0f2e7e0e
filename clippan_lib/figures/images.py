"""Pictures of images side by side under one stretch: rows of images, patches, splits."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from clippan_lib.figures.stretch import Picture, Stretch, fit_stretch, single
from clippan_lib.figures.style import PALETTE, WIDTH, bare, new_figure, panels, styled
from clippan_lib.sensors import Sensor

# Few pictures are not blown up to the full width.
_LARGEST = 4.5


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


def _default_stretch(images: Mapping[str, Picture], sensor: Sensor) -> Stretch:
    for image in images.values():
        if image.shape[-3] == sensor.n_bands:
            return fit_stretch(image, sensor.rgb)
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
) -> Figure:
    """Images of the same ground at the same extent, whatever their resolution (nearest neighbour).

    Args:
        images: title to image, each (c, H, W) or (1, c, H, W), [0, 1]; c is the sensor's bands, or 1 for PAN.
        sensor: says which bands are shown as red, green, blue.
        stretch: shared by all multispectral images; None fits it to the first of them. PAN has its own.
        columns: at most so many in a row.
        title: of the whole figure.
    Raises: ValueError on no images, another count of bands, or frames of different shape.
    """
    if not images:
        raise ValueError("no images to show: give at least one")
    stretch = stretch or _default_stretch(images, sensor)
    size = full_size(images)
    columns = min(columns, len(images))
    side = min(WIDTH / columns, _LARGEST)
    figure, axes = panels(len(images), columns, side * size[0] / size[1] + 0.5, side * columns)
    for ax, (name, image) in zip(axes, images.items(), strict=True):
        draw(ax, colours(image, name, sensor, stretch), size)
        ax.set_title(f"{name}\n{_size_of(image)}")
    figure.suptitle(title)
    return figure


@styled
def patch_grid(
    lrms: Picture, pan: Picture, sensor: Sensor, gt: Picture | None = None, columns: int = 6, title: str = ""
) -> Figure:
    """The first patches of a batch: LRMS above PAN above ground truth, one stretch for the whole batch.

    Args:
        lrms: (b, c, h, w), [0, 1].
        pan: (b, 1, H, W).
        sensor: bands shown.
        gt: (b, c, H, W).
        columns: how many patches are drawn, at most.
        title: of the whole figure.
    Raises: ValueError on an empty batch or unequal batches.
    """
    rows = {"LRMS": lrms, "PAN": pan, **({} if gt is None else {"GT": gt})}
    if len({len(batch) for batch in rows.values()}) != 1 or len(lrms) == 0:
        raise ValueError(
            f"batches of {[len(batch) for batch in rows.values()]}: give equal ones, of at least one patch"
        )
    columns = min(columns, len(lrms))
    # The batch laid out as one tall image: its percentiles are those of all patches together.
    multispectral = fit_stretch(lrms.transpose(0, 1).flatten(1, 2), sensor.rgb)
    grey = fit_stretch(pan.transpose(0, 1).flatten(1, 2), (0,))
    side = min(WIDTH / columns, _LARGEST / 2)
    figure = new_figure(side * len(rows) + 0.4, side * columns + 0.5)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes, (name, batch) in zip(grid, rows.items(), strict=True):
        axes[0].set_ylabel(f"{name}\n{_size_of(batch)}")
        for ax, image in zip(axes, batch, strict=False):
            draw(ax, (grey if name == "PAN" else multispectral).apply(image), tuple(pan.shape[-2:]))
    figure.suptitle(title)
    return figure


@styled
def split_map(
    image: Picture, regions: Mapping[str, Sequence[tuple[int, int, int, int]]], sensor: Sensor
) -> Figure:
    """Which part of a scene trains, validates and tests.

    Args:
        image: (c, H, W) or (1, c, H, W), [0, 1]; multispectral or PAN.
        regions: split to rectangles (top, left, height, width), in pixels of `image`.
        sensor: bands shown.
    Raises: ValueError on a rectangle that leaves the image.
    """
    chw = single(image)
    height, width = chw.shape[1:]
    # Grey below, so that the only colours are those of the splits.
    grey = chw[list(sensor.rgb) if chw.shape[0] == sensor.n_bands else [0]].mean(0, keepdim=True)
    figure = new_figure(6.0 * height / width + 0.6, 6.0)
    ax = figure.subplots()
    draw(ax, fit_stretch(grey, (0,)).apply(grey), (height, width))
    for colour, (split, rectangles) in zip(PALETTE, regions.items(), strict=False):
        for top, left, rows, columns in rectangles:
            if top < 0 or left < 0 or top + rows > height or left + columns > width:
                region = (top, left, rows, columns)
                raise ValueError(f"{split} region {region} leaves the image of {(height, width)}")
            ax.add_patch(Rectangle((left, top), columns, rows, facecolor=colour, alpha=0.35))
    handles = [
        Patch(color=colour, alpha=0.5, label=split) for colour, split in zip(PALETTE, regions, strict=False)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(regions), frameon=False)
    ax.set_title(_size_of(chw))
    return figure
