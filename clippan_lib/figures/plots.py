"""Plots of numbers: embeddings, similarities, kernels, histograms."""

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch
from torch import Tensor

from clippan_lib.evaluation.embedding import TYPES
from clippan_lib.figures.stretch import Picture, single
from clippan_lib.figures.style import (
    PALETTE,
    WIDE,
    WIDTH,
    bare,
    fitted,
    headed,
    inches,
    legend_below,
    looks,
    marked,
    new_figure,
    panels,
    plots_across,
    styled,
)
from clippan_lib.sensors import Sensor

_MARKERS = ("o", "s", "^")
_LEADERS = 0.6  # inches, from a plot to the names beside it


@styled
def scatter_embeddings(
    before: Float[np.ndarray, "n 2"],
    after: Float[np.ndarray, "n 2"],
    types: Int[Tensor, " n"],
    titles: tuple[str, str] = ("before Stage I", "after Stage I"),
    scenes: Int[Tensor, " n"] | None = None,
    width: float = WIDTH,
) -> Figure:
    """The embeddings of LRMS, PAN and HRMS images laid out in the plane, before and after adaptation.

    Args:
        before: (n, 2) layout, as `embedding.layout` gives it.
        after: the same images, after.
        types: (n,), index into `embedding.TYPES`.
        titles: of the two panels; put the numbers behind the picture (silhouette, accuracy) here.
        scenes: (n,); images of the same place are joined by a thin line.
        width: inches: `WIDTH`, or `COLUMN` for one column of a paper.
    """
    figure = new_figure(max(0.52 * width, 3.4), width)
    for ax, xy, title in zip(figure.subplots(1, 2), (before, after), titles, strict=True):
        if scenes is not None:
            for place in scenes.unique():
                ax.plot(*xy[(scenes == place).numpy()].T, color="0.8", linewidth=0.5, zorder=0)
        for index, name in enumerate(TYPES):
            own = xy[(types == index).numpy()]
            ax.scatter(
                *own.T,
                s=26,
                marker=_MARKERS[index],
                color=PALETTE[index],
                alpha=0.75,
                linewidth=0,
                label=name,
            )
        bare(ax)
        ax.set_title(fitted(title, width / 2 - 0.2))
        label = "t-SNE (axes and distances between clusters have no unit)"
        ax.set_xlabel(fitted(label, width / 2 - 0.2))
    legend_below(figure, *ax.get_legend_handles_labels())
    return figure


@styled
def similarity_matrix(
    before: Float[Tensor, "3 3"],
    after: Float[Tensor, "3 3"],
    titles: tuple[str, str] = ("before Stage I", "after Stage I"),
    width: float = WIDTH,
) -> Figure:
    """Mean cosine of each type of image with each text, before and after, on one scale.

    Args:
        before: rows image types, columns texts, as `embedding.mean_similarity` gives it; [-1, 1].
        after: the same, after.
        titles: of the two panels.
        width: inches: `WIDTH`, or `COLUMN` for one column of a paper.
    """
    largest = float(max(before.abs().max(), after.abs().max()))
    figure, axes = panels(2, plots_across(width, WIDE), 3.9 if width > WIDE else 3.2, width, sharey=True)
    for ax, matrix, title in zip(axes, (before, after), titles, strict=True):
        drawn = ax.imshow(matrix.numpy(), cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto")
        for (row, column), value in np.ndenumerate(matrix.numpy()):
            colour = "white" if abs(value) > 0.6 * largest else "black"
            ax.text(column, row, f"{value:.3f}", ha="center", va="center", color=colour, fontsize=11)
        ax.set_xticks(range(3), [f"text {name}" for name in TYPES])
        ax.set_yticks(range(3), [f"{name} image" for name in TYPES])
        ax.set_title(title)
    figure.colorbar(drawn, ax=axes, label="mean cosine")
    return figure


@styled
def mtf_kernels(kernels: Float[Tensor, "c k k"], sensor: Sensor, width: float = WIDTH) -> Figure:
    """The sensor's blur: middle row of each kernel, frequency response, and the gains at Nyquist.

    Args:
        kernels: (c, k, k), one per band, on the PAN grid, as `mtf.mtf_kernel` gives them.
        sensor: names of the bands, gains, ratio.
        width: inches: `WIDTH`, or `COLUMN` for one column of a paper.
    Raises: ValueError if the kernels are not one per band.
    """
    if len(kernels) != sensor.n_bands:
        raise ValueError(
            f"{len(kernels)} kernels for the {sensor.n_bands} bands of {sensor.name}: give one per band"
        )
    side, nyquist = kernels.shape[-1], 0.5 / sensor.ratio
    offset = np.arange(side) - side // 2
    frequency = np.fft.rfftfreq(512)
    figure, (profile, response) = panels(2, plots_across(width, WIDE), 3.8, width)
    for how, name, kernel, gain in zip(
        looks(sensor.n_bands), sensor.bands, kernels.numpy(), sensor.gnyq, strict=True
    ):
        profile.plot(offset, kernel[side // 2], label=name, **how)
        # Summing the columns leaves the response to frequencies along a row.
        response.plot(frequency, np.abs(np.fft.rfft(kernel.sum(0), 512)), **how)
        response.plot(nyquist, gain, "o", color=how["color"], markersize=5)
    response.axvline(nyquist, color="0.5", linewidth=0.8)
    response.annotate(
        f"MS Nyquist {nyquist:g}\ndots: the sensor's gains",
        (nyquist, 0.8),
        (6, 0),
        textcoords="offset points",
    )
    profile.set(title="kernel, middle row", xlabel="offset (PAN pixels)", ylabel="weight")
    profile.set_xlim(-3 * sensor.ratio, 3 * sensor.ratio)
    response.set(
        title="frequency response", xlabel="frequency (cycles per PAN pixel)", ylabel="gain", ylim=(0, 1.05)
    )
    legend_below(figure, *profile.get_legend_handles_labels())
    headed(figure, f"MTF of {sensor.name}" + ("" if sensor.measured else " (default gains, not measured)"))
    return figure


@styled
def histograms(
    lrms: Picture,
    pan: Picture,
    sensor: Sensor,
    bins: int = 100,
    dn_max: float | int | None = None,
    width: float = WIDTH,
) -> Figure:
    """How often each digital number occurs, per band and in PAN.

    Args:
        lrms: (c, h, w) or (1, c, h, w), [0, 1].
        pan: (1, H, W) or (1, 1, H, W).
        sensor: names of the bands.
        bins: of equal width, from 0 to the 99.9th percentile of all values shown.
        dn_max: what takes images to digital numbers (`Scene.dn_max`); None is the sensor's largest.
        width: inches: `WIDTH`, or `COLUMN` for one column of a paper.
    Raises: ValueError if the bands are not the sensor's.
    """
    scale = dn_max or sensor.max_value
    bands, grey = single(lrms, "lrms") * scale, single(pan, "pan") * scale
    if len(bands) != sensor.n_bands or len(grey) != 1:
        raise ValueError(
            f"lrms has {len(bands)} bands and pan {len(grey)}; {sensor.name} has {sensor.n_bands} and 1"
        )
    top = max(float(np.percentile(image.numpy(), 99.9)) for image in (bands, grey))
    edges = np.linspace(0, max(top, 1.0), bins + 1)
    figure = new_figure(3.8, width)
    ax = figure.subplots()
    for how, name, band in zip(
        looks(sensor.n_bands + 1), (*sensor.bands, "PAN"), (*bands, grey[0]), strict=True
    ):
        share = np.histogram(band.numpy(), edges)[0] / band.numel() * 100
        if name == "PAN":
            how = {"color": "black", "linestyle": "-", "linewidth": 2.2, "alpha": 0.5}
        ax.stairs(share, edges, label=name, **how)
    label = f"digital number (of {scale:g}), up to the 99.9th percentile"
    ax.set(xlabel=fitted(label, width - 1), ylabel="pixels per bin (%)", title=sensor.name)
    ax.set_xlim(0, edges[-1])
    legend_below(figure, *ax.get_legend_handles_labels(), most=5)
    return figure


@styled
def quality_and_speed(quality: pd.Series, speed: pd.Series, title: str = "", width: float = WIDTH) -> Figure:
    """How good against how fast: a dot per method, its name in a column beside the plot, the best on top.

    Args:
        quality: method to score, named as the metric; higher is better.
        speed: method to megapixels per second, for the same methods.
        title: of the figure.
        width: inches: `WIDTH`, or `COLUMN` for one column of a paper.
    Raises: ValueError on no methods, or other methods in `speed`.
    """
    if quality.empty or set(quality.index) != set(speed.index):
        raise ValueError(f"quality is of {list(quality.index)}, speed of {list(speed.index)}: give the same")
    quality = quality.sort_values()
    beside = max(map(inches, quality.index)) + _LEADERS + 0.1
    figure = new_figure(max(3.0, 0.22 * len(quality) + 0.6), width)
    ax, names = figure.subplots(1, 2, width_ratios=(width - beside - 1, beside))
    names.set(xlim=(0, beside), ylim=(0, len(quality)))
    names.set_axis_off()
    ax.set_xscale("log")
    for place, (method, value) in enumerate(quality.items()):
        how = marked(place)
        ax.plot(speed[method], value, linestyle="", markersize=6, **how)
        names.plot(_LEADERS - 0.15, place + 0.5, linestyle="", markersize=6, **how)
        names.text(_LEADERS, place + 0.5, method, va="center")
    ax.set_xlim(ax.get_xlim())
    for place, (method, value) in enumerate(quality.items()):
        _lead(ax, names, (speed[method], value), place)
    ax.set_xlabel(fitted("speed (megapixels of PAN per second)", width - beside - 1))
    ax.set_ylabel(quality.name)
    headed(figure, title)
    return figure


def _lead(ax: Axes, names: Axes, dot: tuple[float, float], place: int) -> None:
    """A line from a dot straight to the edge of the plot, and from there to its name.

    Names are in the order of the dots' heights, so no two lines cross.
    """
    thin = {"color": PALETTE[place % 8], "linewidth": 0.6, "alpha": 0.6}
    ax.hlines(dot[1], dot[0], ax.get_xlim()[1], zorder=0, **thin)
    line = ConnectionPatch(
        (1, dot[1]), (_LEADERS - 0.25, place + 0.5), ax.get_yaxis_transform(), names.transData, **thin
    )
    names.add_artist(line)
