"""Curves of trainings."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clippan_lib.figures.style import (
    WIDTH,
    fitted,
    headed,
    legend_below,
    looks,
    new_figure,
    panels,
    plots_across,
    styled,
)

_NO_TERMS = ("iteration", "lr", "grad_norm")
Histories = Mapping[str, pd.DataFrame | Sequence[pd.DataFrame]]


def _runs(histories: Histories, terms: Sequence[str], smooth: int) -> dict[str, list[pd.DataFrame]]:
    """The histories as lists, refused if one has no iterations or a term is in none of them."""
    if not histories or not terms:
        raise ValueError(f"nothing to draw: histories {list(histories)}, terms {list(terms)}")
    if smooth < 1:
        raise ValueError(f"smooth {smooth}: a running mean is over one row or more")
    runs = {label: [h] if isinstance(h, pd.DataFrame) else list(h) for label, h in histories.items()}
    for label, frames in runs.items():
        if any("iteration" not in frame for frame in frames):
            raise ValueError(f"history {label!r} lacks 'iteration'; it has {[*frames[0]]}")
    known = {column for frames in runs.values() for frame in frames for column in frame}
    missing = [term for term in terms if term not in known]
    if missing:
        raise ValueError(f"no history has {missing}; they have {sorted(known)}")
    return runs


def _terms(histories: Histories) -> list[str]:
    listed = ([h] if isinstance(h, pd.DataFrame) else h for h in histories.values())
    columns = dict.fromkeys(column for frames in listed for frame in frames for column in frame)
    return sorted((column for column in columns if column not in _NO_TERMS), key="total".__eq__)


def _wants_log(values: np.ndarray) -> bool:
    """Only positive values, over more than a factor of twenty."""
    return bool(values.size and values.min() > 0 and values.max() > 20 * values.min())


def _draw_term(ax: Axes, term: str, runs: dict[str, list[pd.DataFrame]], smooth: int) -> None:
    drawn = []
    for how, (label, frames) in zip(looks(len(runs)), runs.items(), strict=True):
        if any(term not in frame for frame in frames):
            continue
        series = [_smoothed(frame, term, smooth) for frame in frames]
        seeds = pd.concat(series, axis=1)
        mean, spread = seeds.mean(axis=1), seeds.std(axis=1)
        drawn.append(mean.to_numpy())
        name = f"{label} (mean ± sd, {len(frames)} seeds)" if len(frames) > 1 else label
        ax.plot(mean.index, mean, label=name, **how)
        if len(frames) > 1:
            sides = mean - spread, mean + spread
            ax.fill_between(mean.index, *sides, color=how["color"], alpha=0.15, linewidth=0)
    values = np.concatenate(drawn)
    if _wants_log(values[np.isfinite(values)]):
        ax.set_yscale("log")
    ax.set_title(term)
    ax.set_xlabel(_iteration(smooth))


def _smoothed(frame: pd.DataFrame, term: str, smooth: int) -> pd.Series:
    return frame.set_index("iteration")[term].rolling(smooth, min_periods=1).mean()


def _iteration(smooth: int) -> str:
    return f"iteration (running mean of {smooth})" if smooth > 1 else "iteration"


def follow_curves(figure: Figure, histories: Mapping[str, pd.DataFrame], smooth: int) -> None:
    """Take the lines of a figure of `curves` to another running mean, or to more iterations; its panels stay.

    Args:
        figure: made by `curves` of histories with these labels.
        histories: label to a table, as of `curves`.
        smooth: as of `curves`.
    """
    for ax in figure.axes:
        for line in ax.lines:
            series = _smoothed(histories[line.get_label()], ax.get_title(), smooth)
            line.set_data(series.index, series)
        ax.set_xlabel(_iteration(smooth))
        ax.relim()
        ax.autoscale_view()


@styled
def curves(
    histories: Histories,
    terms: Sequence[str] | None = None,
    smooth: int = 1,
    title: str = "",
    width: float = WIDTH,
) -> Figure:
    """Training curves, one panel per term; logarithmic where the values are positive and span a factor of 20.

    Args:
        histories: label to a table with a column `iteration` and one per term, or to several (seeds): the
            line is then their mean, the band one standard deviation to either side.
        terms: columns to draw; a history without one is left out of its panel. None draws every term of the loss that
            any of them has, the total last; where nothing was trained, the figure says so.
        smooth: running mean over so many iterations.
        title: of the whole figure; a single label joins it, several have a legend.
        width: inches: `WIDTH`, or `COLUMN` for one column of a paper.
    Raises: ValueError on an empty request, a term that no history has, or `smooth` below 1.
    """
    if terms is None and not (terms := _terms(histories)):
        figure = new_figure(1.0, width)
        figure.text(0.5, 0.5, "no iteration: nothing was trained", ha="center", va="center")
        return figure
    runs = _runs(histories, terms, smooth)
    across = plots_across(width)
    figure, axes = panels(len(terms), across, 2.3, width)
    for ax, term in zip(axes, terms, strict=True):
        _draw_term(ax, term, runs, smooth)
        ax.set_xlabel(fitted(ax.get_xlabel(), width / across - 0.6))
    legend = {
        label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    if len(legend) > 1:
        legend_below(figure, list(legend.values()), list(legend), most=4)
    headed(figure, title if len(legend) > 1 else ": ".join(filter(None, [title, *legend])))
    return figure
