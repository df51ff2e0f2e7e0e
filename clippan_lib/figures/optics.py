"""The optics of a pair: how R² follows the gain, what each band has, and what the images hold at each scale."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from clippan_lib.figures.style import (
    PALETTE,
    WIDE,
    WIDTH,
    fitted,
    headed,
    legend_below,
    looks,
    new_figure,
    plots_across,
    styled,
)
from clippan_lib.optics import BOUNDS, Optics, Spectrum
from clippan_lib.sensors import Sensor

_MEASURED, _TABLE = PALETTE[0], PALETTE[3]
_TICKS = (0.03, 0.05, 0.1, 0.2, 0.3, 0.5)
_SPAN = 0.05  # of R², at least: on a finer scale what is flat would look steep


@styled
def optics_curve(optics: Optics, sensor: Sensor, title: str = "", width: float = WIDTH) -> Figure:
    """R² of PAN's detail over the gain, and the gain of each band with its interval, beside those of the table.

    Args:
        optics: of `measure_optics`.
        sensor: names of the bands and the gains that are compared: of a manifest's sensor those of the table.
        title: of the whole figure; sensor, R² and shift if empty.
        width: inches: `WIDTH`, or `COLUMN` for one column of a paper.
    Raises: ValueError if the measured gains are not one per band.
    """
    if len(optics.gnyq) != sensor.n_bands:
        raise ValueError(
            f"optics of {len(optics.gnyq)} bands, and {sensor.name} has {sensor.n_bands}: give the sensor of the pair"
        )
    across = plots_across(width, WIDE)
    figure = new_figure(3.9 if across > 1 else 7.0, width)
    ratios = (1, max(1.0, 0.18 * sensor.n_bands)) if across > 1 else None
    curve, bands = figure.subplots(2 // across, across, width_ratios=ratios)
    _draw_curve(curve, optics, sensor)
    _draw_bands(bands, optics, sensor)
    handles, labels = bands.get_legend_handles_labels()
    legend_below(figure, handles[::-1], labels[::-1])
    down, right = optics.shift
    headed(
        figure,
        title
        or f"{sensor.name}: R² {optics.r2:.2f}, PAN lies {down:+z.2f} rows and {right:+z.2f} columns (PAN px) off MS"
        + ("" if optics.good else "; the fit is not good"),
    )
    return figure


def _draw_curve(ax: Axes, optics: Optics, sensor: Sensor) -> None:
    gains, shares = np.transpose(optics.curve)
    ax.plot(gains, shares, color="black", marker=".")
    ax.axvline(optics.common, color=_MEASURED, linewidth=1)
    table = np.array(sensor.gnyq)
    on_curve = np.interp(np.log(table), np.log(gains), shares, left=np.nan, right=np.nan)
    ax.plot(table, on_curve, "D", color=_TABLE, markerfacecolor="none")
    ax.set_xscale("log")
    ax.set_xticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set(
        xlim=BOUNDS,
        ylim=(max(0.0, min(shares.min(), shares.max() - _SPAN)), shares.max() + _SPAN / 5),
        xlabel="gain at Nyquist of the filter on PAN",
        ylabel="R² of PAN's detail from all bands",
        title=f"all bands together: {optics.common:.2f}",
    )


def _draw_bands(ax: Axes, optics: Optics, sensor: Sensor) -> None:
    at, found = np.arange(sensor.n_bands), np.array(optics.gnyq)
    lower, upper = np.transpose(optics.interval)
    ax.axhline(optics.common, color=_MEASURED, linewidth=1)
    ax.errorbar(
        at,
        found,
        yerr=(found - lower, upper - found),
        fmt="o",
        color=_MEASURED,
        capsize=3,
        label="measured, with 95 % interval (line: all bands)",
    )
    # at the same place: what lies inside the interval is seen to
    label = "the table's" if sensor.measured else "the table's (default gains)"
    ax.plot(at, sensor.gnyq, "D", color=_TABLE, markerfacecolor="none", markersize=8, label=label)
    ax.set_xticks(at, sensor.bands, rotation=30 if sensor.n_bands > 5 else 0)
    ax.set(xlim=(-0.5, sensor.n_bands - 0.5), ylabel="gain at Nyquist", title="each band")
    ax.set_ylim(bottom=0)


@styled
def power_spectra(
    spectra: Mapping[str, Spectrum], ratio: int, title: str = "", width: float = WIDTH
) -> Figure:
    """Power by frequency, logarithmic: what images of one place, or of several, hold at each scale.

    Args:
        spectra: name to spectrum, in cycles per PAN pixel (`power_spectrum(lrms, ratio)`): each is of variance 1, so
            that slopes compare. Those of another scene can stand beside them. Of a constant image, whose powers are
            NaN, only the name is shown.
        ratio: PAN-to-MS scale; a line marks the Nyquist frequency of LRMS.
        title: of the figure.
        width: inches: `WIDTH`, or `COLUMN` for one column of a paper.
    Raises: ValueError on no spectra.
    """
    if not spectra:
        raise ValueError("no spectra to draw: give at least one")
    figure = new_figure(4.2, width)
    ax = figure.subplots()
    for how, (name, (frequency, power)) in zip(looks(len(spectra)), spectra.items(), strict=True):
        known = np.isfinite(power).all()
        ax.plot(frequency, power, label=name if known else f"{name} (constant)", **how)
    if any(np.isfinite(power).all() for _, power in spectra.values()):
        ax.set_yscale("log")
    nyquist = 0.5 / ratio
    ax.axvline(nyquist, color="0.5", linewidth=0.8)
    ax.annotate(
        f"LRMS's Nyquist {nyquist:.3g}",
        (nyquist, 0.02),
        (6, 0),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
    )
    ax.set(
        xlim=(0, 0.5),
        xlabel=fitted("frequency (cycles per PAN pixel), up to PAN's Nyquist", width - 1),
        ylabel="power, relative to white noise\nof the same variance",
        title=fitted(title, width - 1),
    )
    legend_below(figure, *ax.get_legend_handles_labels())
    return figure
